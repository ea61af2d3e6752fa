"""What sources of objects read: a frozen dataclass, whose texts are the help of the command line."""

import dataclasses
from typing import Annotated, ClassVar, Literal, TypeAlias

from cnnjax.settings.checked import POSITIVE, Checked

Invalid: TypeAlias = Literal["refuse", "drop", "cut"]
MaskForm: TypeAlias = Literal["none", "map", "stack"]


@dataclasses.dataclass(frozen=True)
class Objects(Checked):
    """How the objects of pictures are read, from voc:, coco: and masks:."""

    prefix: ClassVar[str] = "objects."

    slots: Annotated[int | None, POSITIVE] = None
    """Places for the objects of each picture; those without an object are marked as not present. Where None, the
    largest number of objects that a picture of any split of the data has."""
    invalid: Invalid = "refuse"
    """Objects whose box is empty, inverted, not finite or reaches out of the picture are an error (refuse), are left
    out (drop), or are cut at the border, and left out where nothing remains (cut). Remarks tell how many, and which."""
    masks: Literal["auto", "none", "map", "stack"] = "auto"
    """none: no masks. map: one whole number for each pixel, k where the object in slot k - 1 is, small objects over
    large ones. stack: a mask for each slot, which overlapping objects need. auto: map of masks:, else none."""

    def mask_form(self, otherwise: MaskForm) -> MaskForm:
        """How masks are given, by a source that gives them like this where nothing is asked for."""
        return otherwise if self.masks == "auto" else self.masks
