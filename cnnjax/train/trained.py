"""The network of a run, read from its folder, as a function of pictures."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax import models
from cnnjax.data import ReadPictures, augment, open_source
from cnnjax.data.batches.pipeline import eval_batches
from cnnjax.data.pictures.pixels import Pixels
from cnnjax.data.sources.opening import is_spelling
from cnnjax.image_size import Size, height_and_width
from cnnjax.models import Model, inference_options
from cnnjax.train.checkpoint import load_checkpoint
from cnnjax.train.run_folder import RECORD, drift, read_record

# Of what was changed in a record: lines, and characters of each.
_MOST_TOLD, _LONGEST_TOLD = 5, 100

# What the record says of a run's pictures, without which its network cannot be called with any.
_OF_PICTURES = ("classes", "shape", "pixels", "mean", "deviation")


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network, called with pictures (batch, height, width, channels) like those of its run.

    Where they were bytes, or floats from 0 to 1, it takes either; floats on another scale it takes on that scale, and
    refuses what is known to be on another one.

    Attributes:
        model: the Flax model.
        variables: its variables, of the running averages where the run kept them.
        pixels: type, range, mean and deviation of the run's pictures, by which others are standardised.
        classes: their names, in the order of the logits.
        image_shape: height, width and channels of the run's pictures.
        settings: the run's, as `config.json` has them.
        record: what the run noted of its data, as `config.json` has it.
    """

    model: Model
    variables: Mapping[str, Any]
    pixels: Pixels
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    settings: Mapping[str, Any]
    record: Mapping[str, Any]

    def __call__(self, pictures: Any) -> Any:
        """Logits, one for each class.

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
        batch = {"image": jnp.asarray(pictures)}
        return augment.standardize(batch, mean=self.pixels.mean, deviation=self.pixels.deviation)["image"]

    def test_pictures(self, count: int, *, data_dir: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The first test pictures of the run as floats, from 0 to 1 where they are bytes, and their labels or tags.

        Args:
            count: at most so many.
            data_dir: where the data lies, as the run was told; a record says nothing of places.

        Raises:
            ValueError, OSError: the run's data is not there, is no longer the same, or was given from Python.
        """
        name, split = self.settings["data"], self.settings["test_split"]
        cure = "call the network with pictures of your own, such as source[0]['image'][None]"
        if not is_spelling(name):
            raise ValueError(
                f"the run was tested on {name!r} ({split}), which was given from Python and cannot be opened by its"
                f" name; {cure}"
            )
        source = open_source(name, split, data_dir=data_dir, follow_links=self.settings["loading"]["follow_links"])
        if source.info.fingerprint != self.record.get("fingerprint of the test data"):
            raise ValueError(f"{name} ({split}) holds other pictures now than those that the run was tested on; {cure}")
        read = ReadPictures(self.image_shape[:2], self.settings["resize_by"])
        with closing(eval_batches(source, batch_size=min(count, len(source)), read=read)) as batches:
            batch = next(batches)
        images, labels = (batch[name][batch["valid"]] for name in ("image", "label" if "label" in batch else "tags"))
        return (images / 255.0 if images.dtype == np.uint8 else images).astype(np.float32), np.asarray(labels)


def load_run(run_dir: Path | str, *, step: int | None = None, image_size: int | Size | None = None) -> Trained:
    """The network of a run on pictures.

    Args:
        run_dir: the folder of the run.
        step: of the checkpoint; the latest where None.
        image_size: one number, or height and width, of the pictures; that of the run's where None.

    Raises:
        FileNotFoundError: the folder holds no checkpoint, or none of that step.
        ValueError: the record or the checkpoint is damaged, the record is not the one that the checkpoint was saved
            with or says too little of the pictures, or the model does not take pictures of that size.
    """
    size = height_and_width(image_size)
    (variables, saved), record = load_checkpoint(run_dir, step=step), Path(run_dir) / RECORD
    cure = f"load_variables({str(run_dir)!r}) gives its variables, for a model and a preparation that you make yourself"
    try:
        changed = drift(read_record(Path(run_dir)), saved, allowed=saved.get("allow_drift", ()))
        settings, data = saved["experiment"], dict(saved["record"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{record} is damaged, or is not that of a run ({error})") from None
    if changed:
        told = [line if len(line) <= _LONGEST_TOLD else f"{line[:_LONGEST_TOLD]} ..." for line in changed]
        more = [f"and {len(told) - _MOST_TOLD} more"] if len(told) > _MOST_TOLD else []
        raise ValueError(
            f"{record} was changed since the checkpoint was saved (there is the file, here the checkpoint:"
            f" {'; '.join([*told[:_MOST_TOLD], *more])}); undo the change"
        )
    if missing := [name for name in _OF_PICTURES if name not in data]:
        raise ValueError(
            f"{record} says nothing of {', '.join(missing)}: it is that of a run by train.fit, whose model and"
            f" preparation were given from Python, or of an earlier version; {cure}"
        )
    try:
        classes, shape = tuple(data["classes"]), tuple(data["shape"])
        pixels = Pixels(**data["pixels"], mean=tuple(data["mean"]), deviation=tuple(data["deviation"]))
        height, width = size or shape[:2]
        shape = (height, width, len(pixels.mean))
        options = {"num_classes": len(classes), "dtype": jnp.dtype(settings["precision"])}
        name = settings["model"]
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{record} is damaged, or is not that of a run on pictures ({error})") from None
    try:
        model = models.create(name, **options)
    except ValueError as error:
        raise ValueError(f"the model of {record} cannot be made anew: {error}; {cure}") from None
    pictures = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    models.check_inputs(model, pictures)
    like = jax.eval_shape(partial(model.init, **inference_options(model)), jax.random.key(0), pictures)
    stacked = models.stack(variables, dict(like))
    return Trained(
        model, {collection: stacked[collection] for collection in like}, pixels, classes, shape, settings, data
    )
