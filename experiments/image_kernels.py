"""What every named image kernel makes of a photograph, on one sheet.

Claim: every filtered photograph is scipy.ndimage's to 1e-5, on a scale from black 0 to white 1; and a Gaussian blur
(sigma one pixel) leaves at most 8.5 % of the photograph's fine detail, its energy at a quarter cycle per pixel and
above, because the blur's gain there is at most exp(-pi^2 / 8) = 0.291, squared 0.085. Sharpening multiplies it.

    python experiments/image_kernels.py                        # writes results/image_kernels.png and .json
    python experiments/image_kernels.py --photograph flower --output flower.png

Expected: at most 2.6e-6 from scipy.ndimage; the Gaussian blur leaves 2.0 % of the fine detail (flower: 2.3 %), the box
blur 3.5 %, and sharpening makes it 22 times as much; 7 to 12 s on two shared cores.
"""

from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
import tyro
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from sklearn.datasets import load_sample_image

from cnnjax.cli import one_line_errors
from cnnjax.functional import kernels
from cnnjax.report.results import write_results
from cnnjax.view.figures import COLOURS, png, style

SHEET = Path(__file__).parent / "results" / "image_kernels.png"
# Who took them, and the top and left of the detail that the small pictures show; both are CC BY 2.0.
PHOTOGRAPHS = {"china": ("danielbuechele", 36, 66), "flower": ("vultilion", 84, 236)}
DETAIL_SIZE = (184, 288)
READING = (
    "The small pictures show the framed part. A kernel whose weights sum to 1 gives a picture; one whose weights sum to"
    " 0 gives signed answers, drawn as mid grey\nplus their mean over red, green and blue divided by the number at the"
    " right. Fine detail: energy at a quarter cycle per pixel and above, against the photograph's."
)
WEIGHT_COLOURS = LinearSegmentedColormap.from_list("weights", [COLOURS[1], "white", COLOURS[0]])

Picture = Float[np.ndarray, "height width channels"]


def fine_detail(picture: Picture) -> float:
    """Energy at a quarter cycle per pixel and above, faded out towards the border."""
    height, width, _ = picture.shape
    window = np.outer(np.hanning(height), np.hanning(width))[..., None]
    spectrum = np.fft.fft2(picture * window, axes=(0, 1))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    return float(np.sum(np.abs(spectrum[frequency >= 0.25]) ** 2))


def difference_from_scipy(picture: Picture, kernel: Float[np.ndarray, "kh kw"], filtered: Picture) -> float:
    """Largest difference from what scipy.ndimage makes of the picture in float64."""
    exact = scipy.ndimage.correlate(picture.astype(np.float64), kernel.astype(np.float64)[..., None], mode="constant")
    return float(np.max(np.abs(filtered - exact)))


@style()
def sheet(
    photograph: str,
    kernel_of: dict[str, Float[np.ndarray, "kh kw"]],
    filtered: dict[str, Picture],
    detail: dict[str, float],
) -> Figure:
    """The whole photograph, large, under the first kernel, and the marked part of it under each of the others."""
    author, top, left = PHOTOGRAPHS[photograph]
    height, width = DETAIL_SIZE
    figure = Figure(figsize=(12, 9.05))
    figure.suptitle(f"{len(filtered)} image kernels on one photograph", x=0.006, ha="left")
    figure.supxlabel(READING, x=0.006, ha="left", fontsize=8.5)
    grid = figure.add_gridspec(4, 4)
    first, *others = filtered
    axes = figure.add_subplot(grid[:2, :2])
    credit = f"photograph by {author}, CC BY 2.0"
    _panel(axes, filtered[first], kernel_of[first], name=first, note=credit, inset=0.12)
    axes.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor="white", linewidth=1.6))
    cells = [(row, column) for row in range(4) for column in range(4) if row > 1 or column > 1]
    for name, cell in zip(others, cells, strict=True):
        kernel = kernel_of[name]
        part = filtered[name][top : top + height, left : left + width]
        if kernel.sum() > 0.5:
            note = f"fine detail \N{MULTIPLICATION SIGN} {detail[name]:.{0 if detail[name] > 1 else 3}f}"
        else:
            scale = kernel.clip(0).sum()
            part = 0.5 + part.mean(-1, keepdims=True) / scale
            note = f"\N{DIVISION SIGN} {scale:g}"
        _panel(figure.add_subplot(grid[cell]), part, kernel, name=name, note=note, inset=0.24)
    return figure


def _panel(
    axes: Axes, picture: Picture, kernel: Float[np.ndarray, "kh kw"], *, name: str, note: str, inset: float
) -> None:
    """A picture of one or three channels, and the kernel's weights on `inset` of its width, upper right."""
    height, width, _ = picture.shape
    axes.imshow(picture.clip(0, 1), cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_title(name.replace("_", " "), loc="left", fontsize=10, pad=3)
    axes.set_title(note, loc="right", fontsize=8.5, fontweight="normal", pad=3)
    tall = inset * width / height
    table = axes.inset_axes((0.99 - inset, 1 - 0.01 * width / height - tall, inset, tall))
    largest = np.abs(kernel).max()
    table.imshow(kernel, cmap=WEIGHT_COLOURS, vmin=-largest, vmax=largest)
    table.set(xticks=[], yticks=[])
    table.grid(visible=False)
    table.spines[:].set(visible=True, color="white", linewidth=1.2)
    if kernel.size <= 9:
        for (row, column), weight in np.ndenumerate(kernel):
            text = f"{weight:g}" if float(weight).is_integer() else f"1/{1 / weight:.0f}"
            colour = "white" if abs(weight) > 0.6 * largest else "black"
            table.text(
                column, row, text.replace("-", "\N{MINUS SIGN}"), ha="center", va="center", fontsize=7, color=colour
            )


def main(photograph: Literal["china", "flower"] = "china", output: Path = SHEET) -> None:
    """Filter a photograph that comes with scikit-learn by every kernel, compare with SciPy, draw the sheet.

    Args:
        photograph: which of the two.
        output: PNG file of the sheet; the measurements go to a JSON file beside it.
    """
    picture = load_sample_image(f"{photograph}.jpg").astype(np.float32) / 255
    kernel_of = {name: np.asarray(kernels.create(name)) for name in kernels.names()}
    apply = jax.jit(kernels.filter_images)
    # Full float32 on accelerators too, whose default rounds what they multiply.
    with jax.default_matmul_precision("highest"):
        filtered = {
            name: np.asarray(apply(jnp.asarray(picture)[None], kernel)[0]) for name, kernel in kernel_of.items()
        }
    before = fine_detail(picture)
    detail = {name: fine_detail(result) / before for name, result in filtered.items()}
    apart = {name: difference_from_scipy(picture, kernel_of[name], result) for name, result in filtered.items()}
    print(f"{'kernel':<16} {'sum':>4} {'from scipy':>11} {'fine detail':>12}")
    for name, kernel in kernel_of.items():
        print(f"{name:<16} {kernel.sum():>4.0f} {apart[name]:>11.1e} {'x':>4} {detail[name]:.4g}")
    print(f"largest difference from scipy.ndimage {max(apart.values()):.1e}; claimed: at most 1e-5")
    print(f"fine detail that the Gaussian blur leaves {detail['gaussian_blur']:.2%}; claimed: at most 8.5 %")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(png(sheet(photograph, kernel_of, filtered, detail), dpi=100))
    measured = {
        "photograph": photograph,
        "largest_difference_from_scipy": max(apart.values()),
        "fine_detail_ratio": {name: float(f"{ratio:.4g}") for name, ratio in detail.items()},
    }
    write_results(output.with_suffix(".json"), measured)
    print(f"written to {output} and {output.with_suffix('.json').name}")


if __name__ == "__main__":
    with one_line_errors():
        tyro.cli(main)
