"""What every augmentation makes of a photograph, with a box and key points that move along, on one sheet.

Those for detectors and segmenters are shown on a drawn scene, with the boxes, masks and key points of all its objects.

Claim: at fixed settings every operation that Pillow has too is Pillow's to 2 levels of 255, which Pillow cuts and we
round, and the curves that map levels to levels are its own exactly. (Where the picture has been turned: 8 pixels off
the border, at which fills begin half a pixel apart.)

    python experiments/augmentations.py                    # writes results/augmentations.png and .json
    python experiments/augmentations.py --seed 7 --output draws.png

Expected: at most 1 level from Pillow; invert, solarize, posterize, autocontrast and equalize 0; 42 panels; about a
minute on two cores, most of it compiling.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_sample_image

from cnnjax.cli import one_line_errors
from cnnjax.data import augment
from cnnjax.data.scenes import scene
from cnnjax.report.results import write_results
from cnnjax.view.figures import png, style

SHEET = Path(__file__).parent / "results" / "augmentations.png"
HEIGHT, WIDTH = 212, 318
COLUMNS = 6
# The tower, and its top and the tips of its upper roof, (x, y) in pixels.
BOX = (31.0, 14.0, 177.0, 190.0)
POINTS = ((102.0, 17.0), (48.0, 60.0), (159.0, 62.0))
CREDIT = (
    "Photographs by danielbuechele and vultilion, CC BY 2.0. Frames and dots are boxes and key points that ride along;"
    " on the scene hatches are masks, and objects that a crop has dropped have no frame."
)

Picture = UInt8[np.ndarray, "height width channels"]


class Panel(NamedTuple):
    """A transform, and how the sheet calls it."""

    name: str
    options: str
    transform: Callable


def panels() -> list[Panel]:
    """Every transform, with settings strong enough to be seen."""
    moved = [
        Panel("pad_and_crop", "pixels=50", partial(augment.pad_and_crop, pixels=50)),
        Panel("random_resized_crop", "", partial(augment.random_resized_crop, size=(HEIGHT, WIDTH), aspect=(1.2, 1.8))),
        Panel("flip", "probability=1", partial(augment.flip, probability=1.0)),
        Panel("flip", "'vertical', probability=1", partial(augment.flip, direction="vertical", probability=1.0)),
        Panel("rotation", "degrees=(15, 30)", partial(augment.rotation, degrees=(15.0, 30.0))),
        Panel("translation", "share=(0.1, 0.25)", partial(augment.translation, share=(0.1, 0.25))),
        Panel("scale", "factors=(0.6, 0.8)", partial(augment.scale, factors=(0.6, 0.8))),
        Panel("shear", "degrees=(5, 20)", partial(augment.shear, degrees=(5.0, 20.0))),
        Panel(
            "affine",
            "all four of them",
            partial(augment.affine, degrees=30.0, share=0.1, factors=0.3, shear=15.0, fill=(0.45, 0.6, 0.8)),
        ),
        Panel("perspective", "share=0.5", partial(augment.perspective, share=0.5)),
        Panel("elastic", "alpha=400, sigma=12", partial(augment.elastic, alpha=400.0, sigma=12.0)),
    ]
    coloured = [
        Panel("brightness", "factor 1.5", partial(augment.brightness, strength=(1.5, 1.5))),
        Panel("contrast", "factor 0.4", partial(augment.contrast, strength=(0.4, 0.4))),
        Panel("saturation", "factor 2", partial(augment.saturation, strength=(2.0, 2.0))),
        Panel("hue", "a third of a turn", partial(augment.hue, turns=(1 / 3, 1 / 3))),
        Panel("colour_jitter", "0.4, 0.4, 0.4, 0.1", augment.colour_jitter),
        Panel("grayscale", "probability=1", partial(augment.grayscale, probability=1.0)),
        Panel("invert", "", augment.invert),
        Panel("solarize", "threshold=0.5", augment.solarize),
        Panel("posterize", "bits=2", partial(augment.posterize, bits=2)),
        Panel("autocontrast", "of a dull picture", lambda *a: augment.autocontrast(a[0], *dull(*a))),
        Panel("equalize", "", augment.equalize),
        Panel("blur", "sigma=(2, 4)", partial(augment.blur, sigma=(2.0, 4.0))),
        Panel("sharpness", "factor 5", partial(augment.sharpness, strength=(5.0, 5.0))),
        Panel("noise", "deviation=0.15", partial(augment.noise, deviation=0.15)),
        Panel("cutout", "side=80", partial(augment.cutout, side=80)),
        Panel("random_erasing", "probability=1", partial(augment.random_erasing, probability=1.0, area=(0.1, 0.3))),
    ]
    drawn = [Panel("rand_augment", f"draw {number}", augment.rand_augment) for number in (1, 2, 3)]
    drawn += [Panel("trivial_augment", f"draw {number}", augment.trivial_augment) for number in (1, 2, 3)]
    return moved + coloured + drawn


def scene_panels() -> list[Panel]:
    """What detectors and segmenters are trained with."""
    size = (HEIGHT, WIDTH)
    return [
        Panel("expand", "ratio=(1.5, 3)", partial(augment.expand, size=size, ratio=(1.5, 3.0), probability=1.0)),
        Panel("iou_crop", "overlaps=(0.3,)", partial(augment.iou_crop, size=size, overlaps=(0.3,))),
        Panel("scale_jitter", "factors=(0.5, 0.8)", partial(augment.scale_jitter, size=size, factors=(0.5, 0.8))),
        Panel("photometric_distortion", "", partial(augment.photometric_distortion, probability=1.0)),
        Panel("elastic_grid", "deviation=10", augment.elastic_grid),
    ]


def dull(key: jax.Array, images: jax.Array, targets: augment.Targets) -> tuple[jax.Array, augment.Targets]:
    """The picture with two fifths of its contrast, for what gives it back."""
    return augment.contrast(key, images, targets, strength=(0.4, 0.4))


def differences_from_pillow(picture: Picture) -> dict[str, int]:
    """The largest difference in levels, by operation, of what Pillow and the package make of a picture."""
    image, size = Image.fromarray(picture), (100, 150)
    turned = Image.Resampling.BILINEAR
    pairs = {
        "rotation": (partial(augment.rotation, degrees=(20.0, 20.0)), image.rotate(20, turned)),
        "crop_and_resize": (
            lambda key, x: augment.crop_and_resize(x, jnp.asarray([[40.0, 20.0, 240.0, 190.0]]), size=size),
            image.crop((40, 20, 240, 190)).resize(size[::-1], turned),
        ),
        "brightness": (partial(augment.brightness, strength=(1.5, 1.5)), ImageEnhance.Brightness(image).enhance(1.5)),
        "contrast": (partial(augment.contrast, strength=(0.4, 0.4)), ImageEnhance.Contrast(image).enhance(0.4)),
        "saturation": (partial(augment.saturation, strength=(2.0, 2.0)), ImageEnhance.Color(image).enhance(2.0)),
        "sharpness": (partial(augment.sharpness, strength=(3.0, 3.0)), ImageEnhance.Sharpness(image).enhance(3.0)),
        "invert": (augment.invert, ImageOps.invert(image)),
        "solarize": (augment.solarize, ImageOps.solarize(image)),
        "posterize": (partial(augment.posterize, bits=2), ImageOps.posterize(image, 2)),
        "autocontrast": (augment.autocontrast, ImageOps.autocontrast(image)),
        "equalize": (augment.equalize, ImageOps.equalize(image)),
    }
    apart = {}
    for name, (transform, expected) in pairs.items():
        found = np.asarray(jax.jit(transform)(jax.random.key(0), jnp.asarray(picture)[None])[0], int)
        difference = np.abs(found - np.asarray(expected, int))
        if name == "rotation":
            shown = Image.new("L", image.size, 255).rotate(20, Image.Resampling.NEAREST)
            inside = np.asarray(shown.resize(image.size), bool)
            for axis in (0, 1):
                inside = np.all([np.roll(inside, step, axis) for step in (-8, 0, 8)], 0)
            difference = difference[8:-8, 8:-8][inside[8:-8, 8:-8]]
        apart[name] = int(difference.max())
    return apart


@style()
def sheet(pictures: list[tuple[str, str, Picture, augment.Targets | None]]) -> Figure:
    """Pictures in rows, each under its name and options."""
    lines = -(-len(pictures) // COLUMNS)
    figure = Figure(figsize=(14.4, 1.87 * lines + 0.75))
    figure.suptitle("Augmentations of one photograph and one scene", x=0.006, ha="left")
    figure.supxlabel(CREDIT, x=0.006, ha="left", fontsize=8.5)
    places = list(figure.subplots(lines, COLUMNS, squeeze=False).flat)
    for axes, (name, options, picture, targets) in zip(places, pictures, strict=False):
        _panel(axes, picture, targets, name=name, options=options)
    for axes in places[len(pictures) :]:
        axes.remove()
    return figure


def _panel(axes: Axes, picture: Picture, targets: augment.Targets | None, *, name: str, options: str) -> None:
    axes.imshow(picture, extent=(0, picture.shape[1], picture.shape[0], 0), interpolation="nearest")
    axes.set(xticks=[], yticks=[], xlim=(0, picture.shape[1]), ylim=(picture.shape[0], 0))
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_title(name, loc="left", fontsize=9.5, pad=3)
    axes.set_title(options, loc="right", fontsize=8, fontweight="normal", pad=3)
    if targets is None or targets.boxes is None or targets.keypoints is None:
        return
    boxes = np.asarray(targets.boxes[0])
    held = (boxes[:, 2:] > boxes[:, :2]).all(1)
    for left, top, right, bottom in boxes[held]:
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor="white", linewidth=1.4))
    if targets.masks is not None:
        # Each object's own, so that those that touch are told apart.
        for number in range(1, len(boxes) + 1):
            mask = np.asarray(targets.masks[0]) == number
            if mask.any():
                places = [np.arange(length) + 0.5 for length in mask.shape[::-1]]
                axes.contourf(*places, mask, levels=[0.5, 1.5], colors="none", hatches=["///"])
    points = np.asarray(targets.keypoints[0])
    x, y = (points[held] if points.ndim == 3 else points).reshape(-1, 2).T
    axes.plot(
        x, y, "o", color="white", markeredgecolor="black", markeredgewidth=0.8, markersize=4.5 if len(x) < 5 else 2.5
    )


def main(seed: int = 0, output: Path = SHEET) -> None:
    """Apply every augmentation to a photograph that comes with scikit-learn, compare with Pillow, draw the sheet.

    Args:
        seed: Decides all draws.
        output: PNG file of the sheet; the measurements go to a JSON file beside it.
    """
    tower, flower = (
        np.asarray(Image.fromarray(load_sample_image(f"{name}.jpg")).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))
        for name in ("china", "flower")
    )
    targets = augment.Targets(boxes=jnp.asarray([[BOX]]), keypoints=jnp.asarray([POINTS]))
    key = jax.random.key(seed)
    shown: list[tuple[str, str, Picture, augment.Targets | None]] = [("photograph", "", tower, targets)]
    compiled: dict[Callable, Callable] = {}
    for number, (name, options, transform) in enumerate(panels()):
        apply = compiled.setdefault(transform, jax.jit(transform))
        changed, placed = apply(jax.random.fold_in(key, number), jnp.asarray(tower)[None], targets)
        shown.append((name, options, np.asarray(changed[0]), placed))
    batch = {"image": jnp.asarray(np.stack([tower, flower])), "label": jnp.arange(2)}
    for name, mix, alpha in (("mixup", augment.mixup, 8.0), ("cutmix", augment.cutmix, 1.0)):
        mixed = jax.jit(partial(mix, alpha=alpha, num_classes=2))(jax.random.fold_in(key, 100), batch)
        share = float(mixed["label"][0, 0])
        shown.append((name, f"{share:.0%} tower, {1 - share:.0%} flower", np.asarray(mixed["image"][0]), None))
    drawn = jax.device_get(scene(jax.random.fold_in(key, 200), size=(HEIGHT, WIDTH), objects=6, fewest=4, digits=True))
    placed = augment.Targets(*(jnp.asarray(drawn[name])[None] for name in augment.Targets._fields))
    shown.append(("scene", "of cnnjax.data.scenes", drawn["image"], placed))
    for number, (name, options, transform) in enumerate(scene_panels()):
        changed, moved = jax.jit(transform)(jax.random.fold_in(key, 300 + number), drawn["image"][None], placed)
        shown.append((name, options, np.asarray(changed[0]), moved))
    apart = differences_from_pillow(tower)
    for name, levels in apart.items():
        print(f"{name:<16} {levels:>3} levels from Pillow")
    print(f"largest difference {max(apart.values())}; claimed: at most 2")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(png(sheet(shown), dpi=100))
    write_results(output.with_suffix(".json"), {"panels": len(shown), "levels_from_pillow": apart})
    print(f"{len(shown)} panels written to {output}, and {output.with_suffix('.json').name}")


if __name__ == "__main__":
    with one_line_errors():
        tyro.cli(main)
