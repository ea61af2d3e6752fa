"""The network of a run as a file that needs neither Flax nor this package."""

from pathlib import Path
from typing import Literal

import jax.numpy as jnp

from cnnjax.experiment.trained import load_run
from cnnjax.image_size import Size
from cnnjax.models.export import export


def export_run(
    run_dir: Path, *, step: int | Literal["best"] | None = None, image_size: int | Size | None = None
) -> bytes:
    """The bytes of an exported file (see `models.export`) with the network of a run, which takes pictures as it did.

    Its inputs are of the type that the run's pictures had: bytes (uint8), or floats on their scale, which `about.json`
    tells as "pixels". They have the run's size, and come in any number; the run's standardisation is in the program. It
    computes in the run's type and gives logits, of the classes that `about.json` lists; of a detector, its detections
    after suppression, in pixels of the run's size.

    Args:
        run_dir: the folder of the run.
        step: of the checkpoint; the latest where None, and "best" for that of the highest score.
        image_size: one number, or height and width, of the pictures; that of the run's where None.

    Raises:
        FileNotFoundError: the folder holds no checkpoint, or none of that step.
        ValueError: as `load_run`.
        ImportError: the extra `export` is not installed.
    """
    trained = load_run(run_dir, step=step, image_size=image_size)
    return export(
        trained.model,
        trained.variables,
        trained.image_shape,
        dtype=jnp.dtype(trained.pixels.dtype),
        prepare=trained.prepare,
        record={"classes": list(trained.classes), "pixels": trained.record["data"]["pixels"]},
    )
