"""A net within a net: its stages, and its maps, under the path of the part that it is."""

from collections.abc import Sequence

from jaxtyping import Array, Float

from cnnjax.models.parts.architecture import Architecture, Maps, Stage

# The name of that part.
TRUNK = "backbone"


def trunk_stages(trunk: Architecture) -> tuple[Stage, ...]:
    """The stages of a trunk, as those of the net that it is a part of."""
    return tuple(stage._replace(name=f"{TRUNK}/{stage.name}") for stage in trunk.stages)


def trunk_maps(
    trunk: Architecture,
    images: Float[Array, "batch height width channels"],
    *,
    train: bool,
    stages: Sequence[str],
) -> Maps:
    """The maps of some stages, by their names in the net that the trunk is a part of.

    Args:
        trunk: the part, called `TRUNK`.
        images: what it takes.
        train: whether it normalises by the batch's statistics.
        stages: names of `trunk_stages`.
    """
    names = [name.removeprefix(f"{TRUNK}/") for name in stages]
    found = trunk(images, train=train, stages=names)
    return {f"{TRUNK}/{name}": x for name, x in found.items()}
