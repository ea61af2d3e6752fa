"""The network of a run, read from its folder, as a function of pictures."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from cnnjax import models
from cnnjax.data import ReadPictures, augment, open_source
from cnnjax.data.batches.pipeline import eval_batches
from cnnjax.data.pictures.pixels import Pixels
from cnnjax.data.pictures.read import decode_example
from cnnjax.data.sources.opening import is_spelling
from cnnjax.data.sources.source import Source
from cnnjax.experiment.found_objects import FoundObjects, found_objects
from cnnjax.experiment.label_maps import LabelMaps, label_maps
from cnnjax.experiment.predictions import Predictions, picture_files, read_picture
from cnnjax.experiment.settings import Experiment, experiment_of
from cnnjax.image_size import Size, height_and_width
from cnnjax.models import Model, inference_options
from cnnjax.tasks import ObjectTask, PixelTask, Task
from cnnjax.train.checkpoint import load_checkpoint
from cnnjax.train.run_folder import RECORD, drift, read_record

# Of what was changed in a record: lines, and characters of each.
_MOST_TOLD, _LONGEST_TOLD = 5, 100

# Tiles of a picture that are computed at once.
_MOST_TILES = 8

_OWN_PICTURES = "call the network with pictures of your own, such as source[0]['image'][None]"


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network, called with pictures (batch, height, width, channels) like those of its run.

    Where they were bytes, or floats from 0 to 1, it takes either; floats on another scale it takes on that scale, and
    refuses what is known to be on another one.

    Attributes:
        model: the Flax model.
        variables: its variables, of the running averages where the run kept them.
        task: what its output means.
        pixels: type, range, mean and deviation of the run's pictures, by which others are standardised.
        classes: their names, in the order of the logits.
        image_shape: height, width and channels of the run's pictures.
        experiment: the run's settings; where it and its data lie is not recorded.
        record: all that `config.json` holds.
        step: of the checkpoint.
    """

    model: Model
    variables: Mapping[str, Any]
    task: Task
    pixels: Pixels
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    experiment: Experiment
    record: Mapping[str, Any]
    step: int

    @property
    def title(self) -> str:
        """Model and data in words, such as "lenet5 on digits"."""
        return f"{self.experiment.net.name} on {self.record['sources']['training']['data']}"

    @property
    def read(self) -> ReadPictures:
        """What brings pictures to the size of the run's, as it did."""
        return ReadPictures(self.image_shape[:2], self.experiment.pictures.resize_by)

    def __call__(self, pictures: Any) -> Any:
        """What the model gives: logits, one for each class, or what else the task takes.

        Raises:
            ValueError: as `prepare`.
        """
        return self.model.apply(self.variables, self.prepare(pictures), **inference_options(self.model))

    def prepare(self, pictures: Any) -> jax.Array:
        """What the model takes: pictures, standardised.

        Raises:
            ValueError: the pictures are not like those of the run; it says in what.
        """
        self.pixels.check(pictures)
        return self.prepare_batch({"image": jnp.asarray(pictures)})["image"]

    def prepare_batch(self, batch: Any) -> Any:
        """A batch with its pictures standardised."""
        return augment.standardize(batch, mean=self.pixels.mean, deviation=self.pixels.deviation)

    def predict(
        self,
        pictures: Any,
        *,
        batch_size: int = 64,
        canvases: Sequence[Size] = (),
        console: Console | None = None,
    ) -> Predictions | LabelMaps | FoundObjects:
        """What the network says of pictures, with the names of its classes.

        Args:
            pictures: an array (batch, height, width, channels) like those of the run, of any size that the model takes;
                or files and folders of pictures, of any size, which are brought to that of the run, as it did. Where
                the task is of pixels, pictures keep their size, and arrays may be a list of several sizes; so they
                may for a detector, which brings them to the size of the run by itself.
            batch_size: pictures, or tiles of them, that are computed at once.
            canvases: of a detector that takes any size, the sizes (height, width) that pictures are brought to, each to
                the one on which it is the largest: a program is compiled for each. That of the run alone where empty.
            console: shows the progress where it takes long.

        Returns:
            The predictions of the task, such as "probabilities" and "label", which print as a table and save
            themselves as CSV and JSON; of a task of pixels `LabelMaps`, and of one of objects `FoundObjects`, which
            write PNG files into a folder.

        Raises:
            FileNotFoundError: a file or folder is not there, or a folder holds no picture.
            ValueError: a file is no picture, or the pictures are not like those of the run.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}; expected a number above 0")
        if isinstance(pictures, str | Path):
            pictures = [pictures]
        by_pixel = self.task if isinstance(self.task, PixelTask) else None
        detector = self.task if isinstance(self.task, ObjectTask) else None
        own_size = by_pixel or detector
        if canvases and detector is None:
            raise ValueError(f"canvases={tuple(canvases)} are for detectors; the run is of {type(self.task).__name__}")
        if isinstance(pictures, Sequence) and all(isinstance(one, str | Path) for one in pictures):
            if not self.pixels.from_zero_to_one:
                raise ValueError(
                    f"the run was trained on floats from {self.pixels.low:g} to {self.pixels.high:g}, which files do"
                    " not hold; pass an array"
                )
            files = picture_files([Path(one) for one in pictures])
            read = partial(read_picture, read=decode_example if own_size else self.read, channels=self.image_shape[2])
            names, every = [str(file) for file in files], map(read, files)
        elif own_size:
            names, every = [str(number) for number in range(len(pictures))], map(np.asarray, pictures)
        else:
            whole = np.asarray(pictures)
            self.pixels.check(whole)
            names, every = [str(number) for number in range(len(whole))], iter(whole)
        if not names:
            raise ValueError("no pictures came; expected at least one")
        if by_pixel:
            return label_maps(self, by_pixel, names, every, batch_size=min(batch_size, _MOST_TILES), console=console)
        if detector:
            options: dict[str, Any] = {"batch_size": min(batch_size, len(names), _MOST_TILES), "console": console}
            return found_objects(self, detector, names, every, canvases=canvases, **options)
        batch_size = min(batch_size, len(names))
        found = [
            self._predict(np.stack([*islice(every, batch_size)]), batch_size) for _ in range(0, len(names), batch_size)
        ]
        joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)
        return Predictions(tuple(names), joined, tuple(self.task.rows(joined)))

    def _predict(self, pictures: np.ndarray, batch_size: int) -> Any:
        """Predictions of at most one batch; it is filled up, so that one program serves all."""
        count = len(pictures)
        filled = np.concatenate([pictures, np.repeat(pictures[:1], batch_size - count, axis=0)])
        batch = {"image": filled, "valid": np.arange(batch_size) < count}
        return jax.tree.map(lambda leaf: np.asarray(leaf)[:count], self._compiled(self.variables, batch))

    @cached_property
    def _compiled(self) -> Any:
        def predict(variables: Any, batch: Any) -> Any:
            batch = self.prepare_batch(batch)
            inputs = self.task.inputs(batch, train=False)
            output = self.model.apply(variables, inputs, **inference_options(self.model))
            return self.task.predict(output, batch)

        return jax.jit(predict)

    def open_split(self, split: str | None = None, *, data: str | None = None, data_dir: Path | None = None) -> Source:
        """A split of the run's data, or of other data with the same classes.

        Args:
            split: its name; that of the run's test where None.
            data: spelling of other data; the run's where None.
            data_dir: where the data lies, as the run was told; a record says nothing of places.

        Raises:
            ValueError, OSError: the run's data is not there, is no longer the same, or was given from Python; or other
                data has other classes.
        """
        pictures = self.experiment.pictures
        told = self.record["sources"]["test"]
        name, split = data or told["data"], split or told["split"]
        if not is_spelling(name):
            raise ValueError(
                f"the run was tested on {name!r} ({split}), which was given from Python and cannot be opened by its"
                f" name; {_OWN_PICTURES}"
            )
        links = self.experiment.training.loading.follow_links
        options = {"follow_links": links, "objects": pictures.objects}
        source = open_source(name, split, data_dir=data_dir or pictures.data_dir, **options)
        known = [
            fingerprint
            for role, fingerprint in self.record["data"]["fingerprints"].items()
            if self.record["sources"][role]["split"] == split
        ]
        if data is None and known and source.info.fingerprint not in known:
            raise ValueError(
                f"{name} ({split}) holds other pictures now than those that the run was tested on; {_OWN_PICTURES}"
            )
        if tuple(source.info.classes) != self.classes:
            raise ValueError(
                f"{name} ({split}) has the classes {', '.join(source.info.classes[:6])}, ..., and the run"
                f" {', '.join(self.classes[:6])}, ...; expected the same, in one order"
            )
        return source

    def test_pictures(self, count: int, *, data_dir: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The first test pictures of the run, bytes as floats from 0 to 1, and their labels, tags or masks.

        Args:
            count: at most so many.
            data_dir: where the data lies, as the run was told; a record says nothing of places.

        Raises:
            ValueError, OSError: as `open_split`.
        """
        source = self.open_split(data_dir=data_dir)
        with closing(eval_batches(source, batch_size=min(count, len(source)), read=self.read)) as batches:
            batch = next(batches)
        told = next(name for name in ("label", "tags", "masks") if name in batch)
        images, labels = (batch[name][batch["valid"]] for name in ("image", told))
        return (images / 255.0 if images.dtype == np.uint8 else images).astype(np.float32), np.asarray(labels)


def load_run(
    run_dir: Path | str, *, step: int | Literal["best"] | None = None, image_size: int | Size | None = None
) -> Trained:
    """The network of a run on pictures.

    Args:
        run_dir: the folder of the run.
        step: of the checkpoint; the latest where None, "best" for the one of the highest score.
        image_size: one number, or height and width, of the pictures; those of the run's where None.

    Raises:
        FileNotFoundError: the folder holds no checkpoint, or none of that step.
        ValueError: the record or the checkpoint is damaged, the record is not the one that the checkpoint was saved
            with or says too little of the pictures, or the model does not take pictures of that size.
    """
    size = height_and_width(image_size)
    (variables, saved, found), path = load_checkpoint(run_dir, step=step), Path(run_dir) / RECORD
    cure = f"load_variables({str(run_dir)!r}) gives its variables, for a model and a preparation that you make yourself"
    try:
        changed = drift(read_record(Path(run_dir)), saved, allowed=saved.get("allow_drift", ()))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged, or is not that of a run ({error})") from None
    if changed:
        told = [line if len(line) <= _LONGEST_TOLD else f"{line[:_LONGEST_TOLD]} ..." for line in changed]
        more = [f"and {len(told) - _MOST_TOLD} more"] if len(told) > _MOST_TOLD else []
        raise ValueError(
            f"{path} was changed since the checkpoint was saved (there is the file, here the checkpoint:"
            f" {'; '.join([*told[:_MOST_TOLD], *more])}); undo the change"
        )
    if missing := [name for name in ("net", "pictures", "data", "built task") if name not in saved]:
        raise ValueError(
            f"{path} says nothing of {', '.join(missing)}: it is that of a run by cnnjax.fit, whose model and"
            f" preparation were given from Python, or of an earlier version; {cure}"
        )
    try:
        experiment, data = experiment_of(saved, where=str(path)), saved["data"]
        pixels = Pixels(**data["pixels"], mean=tuple(data["mean"]), deviation=tuple(data["deviation"]))
        height, width = size or data["shape"][:2]
        shape = (height, width, len(pixels.mean))
        classes = tuple(data["classes"])
        task = experiment.task.rebuild(saved["built task"])
        outputs = getattr(task, "outputs", len(classes))
        fixed = {"num_classes": outputs, "dtype": jnp.dtype(experiment.training.precision)}
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged, or is not that of a run on pictures ({error})") from None
    try:
        model = models.create(experiment.net.name, **{**experiment.net.options, **fixed})
    except ValueError as error:
        raise ValueError(f"the model of {path} cannot be made anew: {error}; {cure}") from None
    pictures = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    models.check_inputs(model, pictures)
    like = jax.eval_shape(partial(model.init, **inference_options(model)), jax.random.key(0), pictures)
    stacked = models.stack(variables, dict(like))
    needed = {collection: stacked[collection] for collection in like}
    return Trained(model, needed, task, pixels, classes, shape, experiment, saved, found)
