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
from cnnjax.data import augment, open_source
from cnnjax.data.pipeline import eval_batches
from cnnjax.models import Model, inference_options
from cnnjax.train.checkpoint import load_checkpoint
from cnnjax.train.run_folder import RECORD, drift, read_record

# Of what was changed in a record: lines, and characters of each.
_MOST_TOLD, _LONGEST_TOLD = 5, 100


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network, called with pictures (batch, height, width, channels), bytes or floats from 0 to 1.

    Attributes:
        model: the Flax model.
        variables: its variables, of the running averages where the run kept them.
        mean: of the channels, by which pictures are standardised.
        deviation: of the channels.
        classes: their names, in the order of the logits.
        image_shape: height, width and channels of the run's pictures.
        settings: the run's, as `config.json` has them.
    """

    model: Model
    variables: Mapping[str, Any]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    settings: Mapping[str, Any]

    def __call__(self, pictures: Any) -> Any:
        """Logits, one for each class."""
        return self.model.apply(self.variables, self.prepare(pictures), **inference_options(self.model))

    def prepare(self, pictures: Any) -> jax.Array:
        """What the model takes: pictures, standardised."""
        pictures = jnp.asarray(pictures)
        pixels = pictures if pictures.dtype == jnp.uint8 else 255.0 * pictures
        return augment.standardize({"image": pixels}, mean=self.mean, deviation=self.deviation)["image"]

    def test_pictures(self, count: int, *, data_dir: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The first test pictures of the run, floats from 0 to 1, and their labels.

        Args:
            count: at most so many.
            data_dir: where the data lies, as the run was told; a record says nothing of places.

        Raises:
            ValueError, OSError: the run's data is not there.
        """
        settings = self.settings
        source = open_source(settings["data"], settings["test_split"], data_dir=data_dir)
        options = {"image_size": self.image_shape[:2], "fit": settings["fit"]}
        with closing(eval_batches(source, batch_size=min(count, len(source)), **options)) as batches:
            batch = next(batches)
        images, labels = batch["image"][batch["valid"]], batch["label"][batch["valid"]]
        return (images / 255.0 if images.dtype == np.uint8 else images).astype(np.float32), np.asarray(labels)


def load_run(run_dir: Path | str, *, step: int | None = None, image_size: int | None = None) -> Trained:
    """The network of a run on pictures.

    Args:
        run_dir: the folder of the run.
        step: of the checkpoint; the latest where None.
        image_size: side of the pictures; the run's setting where None, or else that of the model's paper.

    Raises:
        FileNotFoundError: the folder holds no checkpoint, or none of that step.
        ValueError: the record or the checkpoint is damaged, or the record is not the one that the checkpoint was saved
            with; or the model does not take pictures of that size.
    """
    (variables, saved), record = load_checkpoint(run_dir, step=step), Path(run_dir) / RECORD
    try:
        changed = drift(read_record(Path(run_dir)), saved, allowed=saved.get("allow_drift", ()))
        settings, data = saved["experiment"], saved["record"]
        name, classes, size = settings["model"], tuple(data["classes"]), image_size or settings["image_size"]
        mean, deviation = tuple(data["mean"]), tuple(data["deviation"])
        model = models.create(name, num_classes=len(classes), dtype=jnp.dtype(settings["precision"]))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{record} is damaged, or is not that of a run on pictures ({error})") from None
    if changed:
        told = [line if len(line) <= _LONGEST_TOLD else f"{line[:_LONGEST_TOLD]} ..." for line in changed]
        more = [f"and {len(told) - _MOST_TOLD} more"] if len(told) > _MOST_TOLD else []
        raise ValueError(
            f"{record} was changed since the checkpoint was saved (there is the file, here the checkpoint:"
            f" {'; '.join([*told[:_MOST_TOLD], *more])}); undo the change"
        )
    height, width, _ = models.image_shape(name)
    shape = (size or height, size or width, len(mean))
    pictures = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    models.check_inputs(model, pictures)
    like = jax.eval_shape(partial(model.init, **inference_options(model)), jax.random.key(0), pictures)
    stacked = models.stack(variables, dict(like))
    return Trained(
        model, {collection: stacked[collection] for collection in like}, mean, deviation, classes, shape, settings
    )
