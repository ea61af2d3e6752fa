"""Instance segmentation: boxes of things, each with its class and its mask."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from matplotlib.figure import Figure

from cnnjax.functional.masks import encode_rle, paste
from cnnjax.models import Objects
from cnnjax.tasks import detection_figures
from cnnjax.tasks.detection import Detection, unpadded
from cnnjax.tasks.metrics import Metric, Rows


@dataclass(frozen=True)
class Instances(Detection):
    """As `Detection`, with `batch["masks"]`: k where the object in slot k - 1 is, or a plane for each slot.

    Masks are compared in pixels of the picture as the detector got it. What is told of them has "mask" before its name.
    """

    def objects_of(self, batch: Mapping[str, Any]) -> Objects:
        """What is to be found, with its masks.

        Raises:
            ValueError: the batch has no boxes, or no masks.
        """
        objects = super().objects_of(batch)
        if "masks" not in batch:
            raise ValueError(
                f'the batch holds {", ".join(map(repr, batch))} and no "masks"; expected masks of instances: read them'
                " with --objects.masks map, or train a detector without masks"
            )
        return objects._replace(masks=batch["masks"])

    def metrics(self, output: Any, predictions: Mapping[str, Any], batch: Mapping[str, Any]) -> dict[str, Metric]:
        """Those of the boxes; and true and found masks."""
        kept = {name: batch[name] for name in ("boxes", "classes", "present", "crowd", "difficult") if name in batch}
        values = {"true": {**kept, "masks": batch["masks"]}, "found": dict(predictions), "id": batch["id"]}
        return {**super().metrics(output, predictions, batch), "masks": Rows(values, batch["valid"])}

    def summarize(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        """The numbers of boxes, and those of masks."""
        numbers = super().summarize({name: metric for name, metric in metrics.items() if name != "masks"})
        if "masks" not in metrics:
            return numbers
        kept = metrics["masks"].kept()
        order = np.argsort(kept["id"], kind="stable")
        truths, found = [], []
        for place in order:
            true, said = ({name: array[place] for name, array in kept[side].items()} for side in ("true", "found"))
            truths.append(_coded(true, planes_of(true["masks"], len(true["present"]))))
            found.append(_coded(said, pasted(said["masks"], said["boxes"], true["masks"].shape[:2])))
        of_masks = self.precision(truths, found, masks=True)
        return {**numbers, **{f"mask_{name}": value for name, value in of_masks.items()}}

    def draw(self, batch: Mapping[str, np.ndarray], predictions: Mapping[str, Any]) -> dict[str, Figure]:
        """Those of `Detection`, with the masks of what was found over the pictures."""
        sides = np.asarray(batch["image"]).shape[1:3]
        truths, found = unpadded(batch), unpadded(predictions)
        masks = [
            pasted(array, boxes, sides)[np.asarray(present, bool)]
            for array, boxes, present in zip(
                predictions["masks"], predictions["boxes"], predictions["present"], strict=True
            )
        ]
        return detection_figures.all_figures(np.asarray(batch["image"]), truths, found, self.classes, masks=masks)


def pasted(
    masks: Float[Array, "slots rows columns"] | np.ndarray,
    boxes: Float[Array, "slots 4"] | np.ndarray,
    size: Sequence[int],
) -> Bool[np.ndarray, "slots height width"]:
    """Masks of boxes as pixels of the picture: those of a probability of one half or more, as torchvision's.

    Args:
        masks: probabilities of the pixels of each box, resampled to one size.
        boxes: in pixels of the picture; they may reach beyond it.
        size: height and width of the picture.
    """
    size = (int(size[0]), int(size[1]))
    return np.asarray(_paste(jnp.asarray(masks, jnp.float32), jnp.asarray(boxes, jnp.float32), size)) >= 0.5


def planes_of(masks: np.ndarray, slots: int) -> Bool[np.ndarray, "slots height width"]:
    """A plane for each slot, of a map or of planes."""
    if masks.ndim == 3:
        return np.moveaxis(masks > 0, -1, 0)
    return masks[None] == np.arange(1, slots + 1).reshape(-1, 1, 1)


@partial(jax.jit, static_argnums=2)
def _paste(masks: jax.Array, boxes: jax.Array, size: tuple[int, int]) -> jax.Array:
    return paste(masks, boxes, size, rule="integer")


def _coded(objects: Mapping[str, Any], planes: Bool[np.ndarray, "slots height width"]) -> dict[str, Any]:
    """The objects of one picture without empty slots, with run-length codes of their masks."""
    present = np.asarray(objects["present"], bool)
    kept = {name: array[present] for name, array in objects.items() if name not in ("present", "masks")}
    return {**kept, "masks": [encode_rle(plane) for plane in planes[present]]}
