"""How boxes that may hold an object are found: a frozen dataclass, whose texts are the help of the command line."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from cnnjax.settings.checked import POSITIVE, UNRECORDED, Checked


@dataclasses.dataclass(frozen=True)
class Proposals(Checked):
    """Boxes by selective search, for nets that propose none themselves: rcnn and fast_rcnn."""

    prefix: ClassVar[str] = "proposals."

    most: Annotated[int, POSITIVE] = 2000
    """Boxes of each picture at most, the most promising first."""
    mode: Literal["fast", "quality"] = "fast"
    """fast: 8 groupings of a picture's segments; quality: 80."""
    smallest: Annotated[int, POSITIVE] = 20
    """Boxes with a shorter side are left out; in pixels of the picture at the width below."""
    width: Annotated[int, POSITIVE] = 500
    """Wider pictures are searched at this width."""
    enlarge: bool = False
    """Narrower pictures are searched at this width too, for small objects."""
    folder: Annotated[Path | None, UNRECORDED] = None
    """Where boxes that were found once are kept; the folder "proposals" of the cache where None."""

    def options(self) -> dict[str, Any]:
        """Those of `cnnjax.data.proposals.selective_search`."""
        return {name: getattr(self, name) for name in ("most", "mode", "smallest", "width", "enlarge")}
