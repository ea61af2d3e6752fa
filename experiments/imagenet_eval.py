"""Evaluates a model with public weights on a folder of labelled pictures: top-1 and top-5 accuracy.

Claim: ResNet-50 with torchvision's first ImageNet weights has 76.13 % top-1 and 92.86 % top-5 accuracy on the 50,000
pictures of ImageNet's validation set, resized to 256 along the shorter side and cropped to the middle 224.

The folder holds one folder per class, `PATH/n01440764/*.JPEG` and so on, whose sorted names are the classes in the
order of the logits. Weights are a safetensors file by PyTorch's names, or a Hub repository with commit and checksum:

    python experiments/imagenet_eval.py resnet50 path/to/val --weights resnet50.safetensors
    python experiments/imagenet_eval.py resnet50 path/to/val --weights timm/resnet50.tv_in1k --revision ... --sha256 ...

where torchvision's own file becomes one by `save_file(torch.load("resnet50-0676ba61.pth"), "resnet50.safetensors")`
with `safetensors.torch.save_file`, once, anywhere.

Expected: 76.13 % and 92.86 %, the figures torchvision prints for these weights. They were not measured here, where
there is no ImageNet; tested are every step on made pictures, and the logits against torchvision's on equal weights.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.progress import track

from cnnjax import models
from cnnjax.cli import one_line_errors
from cnnjax.data import Source, fit_image, open_source
from cnnjax.data.sources.source import read_example
from cnnjax.models.weights import load_torch_weights

# ImageNet's, on the scale of 0 to 1: what torchvision's and most of timm's weights were trained with.
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


def prepare(image: np.ndarray, *, resize: int, crop: int) -> np.ndarray:
    """A picture resized along its shorter side, cropped in the middle, and standardised."""
    height, width = image.shape[:2]
    shorter = min(height, width)
    # torchvision cuts the longer side down to a whole number.
    sides = (int(resize * height / shorter), int(resize * width / shorter))
    cropped = fit_image(fit_image(image, sides), (crop, crop), "crop")
    return (cropped.astype(np.float32) / 255 - MEAN) / DEVIATION


def batches(source: Source, batch_size: int, *, resize: int, crop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images and labels, the last batch filled with a label that no class has."""
    for start in range(0, len(source), batch_size):
        images = np.zeros((batch_size, crop, crop, 3), np.float32)
        labels = np.full(batch_size, -1, np.int32)
        for place, index in enumerate(range(start, min(start + batch_size, len(source)))):
            example = read_example(source, index)
            images[place], labels[place] = prepare(example["image"], resize=resize, crop=crop), example["label"]
        yield images, labels


def evaluate(
    model: models.Model,
    variables: Any,
    source: Source,
    *,
    batch_size: int = 50,
    resize: int = 256,
    crop: int = 224,
    console: Console | None = None,
) -> dict[str, float]:
    """Top-1 and top-5 accuracy over labelled pictures."""

    @jax.jit
    def hits(variables: Any, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = cast(jax.Array, model.apply(variables, images))
        _, best = jax.lax.top_k(logits, min(5, logits.shape[-1]))
        right = best == labels[:, None]
        return jnp.sum(right[:, 0]), jnp.sum(jnp.any(right, axis=-1))

    found = np.zeros(2)
    steps = batches(source, batch_size, resize=resize, crop=crop)
    total = -(-len(source) // batch_size)
    for images, labels in track(steps, "evaluating", total, console=console or Console(stderr=True)):
        found += np.array(jax.device_get(hits(variables, images, labels)))
    return {"top1": float(found[0]) / len(source), "top5": float(found[1]) / len(source)}


def main(
    model: tyro.conf.Positional[str],
    folder: tyro.conf.Positional[Path],
    weights: str,
    revision: str | None = None,
    sha256: str | None = None,
    batch_size: int = 50,
    resize: int = 256,
    crop: int = 224,
) -> None:
    """Evaluate a model with public weights on a folder of labelled pictures.

    Args:
        model: name of a registered model; `cnnjax models` lists them.
        folder: folder with one folder of pictures per class.
        weights: a safetensors file, or a Hub repository.
        revision: the Hub commit, 40 digits.
        sha256: checksum of the weights file; needed for the Hub.
        batch_size: pictures at a time.
        resize: length that the shorter side is brought to.
        crop: side of the square that is cut from the middle; 299 for Inception v3, with --resize 342.
    """
    with one_line_errors():
        for name, value in (("batch_size", batch_size), ("resize", resize), ("crop", crop)):
            if value < 1:
                raise ValueError(f"{name}={value}; expected a number above 0")
        if resize < crop:
            raise ValueError(f"resize={resize} is less than crop={crop}; expected at least as much")
        source = open_source(f"folder:{folder}", "all")
        built = models.create(model, num_classes=len(source.info.classes))
        variables = load_torch_weights(built, weights, revision=revision, sha256=sha256)
        scores = evaluate(built, variables, source, batch_size=batch_size, resize=resize, crop=crop)
        print(f"{model} on {len(source)} pictures: top-1 {scores['top1']:.2%}, top-5 {scores['top5']:.2%}")


if __name__ == "__main__":
    tyro.cli(main)
