"""Weights that anyone can draw again, and what torchvision's and timm's models make of them.

Run with PyTorch, torchvision and timm (Python 3.11, torch 2.14.1, torchvision 0.29.1, timm 1.0.31; about two minutes),
this file writes `torch_goldens.npz`: logits of one picture for each model, and of two models in training mode the loss
and every parameter's gradient norm. The tests draw the same weights with NumPy and need no PyTorch:

    python tests/models/torch_goldens.py
"""

import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_suffix(".npz")

# Name here, options here, library and name there.
LOGITS = {
    "alexnet_owt": ({}, "tv:alexnet"),
    **{name: ({}, f"tv:{name}") for name in ("vgg11", "vgg13", "vgg16", "vgg19")},
    **{f"{name}_bn": ({"batch_norm": True}, f"tv:{name}_bn") for name in ("vgg11", "vgg13", "vgg16", "vgg19")},
    "googlenet_bn": ({}, "tv:googlenet"),
    "inception_v3": ({}, "tv:inception_v3"),
    **{name: ({}, f"tv:{name}") for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")},
    **{f"se_resnet{depth}": ({}, f"timm:seresnet{depth}") for depth in (50, 101, 152)},
    "senet154": ({}, "timm:legacy_senet154"),
    "densenet121": ({}, "tv:densenet121"),
    "mobilenet_v1": ({}, "timm:mobilenetv1_100"),
}
TRAINED = ("resnet18", "googlenet_bn")
# Odd, so that strides leave a rest.
TRAIN_SIZE, TRAIN_LABELS = 97, (3, 996, 41, 500)


def picture_side(name: str) -> int:
    """Side of the picture whose logits are kept."""
    return 299 if name == "inception_v3" else 224


def draw_weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """A tensor for every name in the layout of PyTorch, which depends on name and shape alone.

    Gates' kernels are small, for saturated gates would make every rounding of the maps before them count.
    """
    weights = {}
    for name, shape in shapes.items():
        generator = np.random.default_rng(zlib.crc32(name.encode()))
        if len(shape) > 1:
            deviation = np.float32(np.sqrt(2 / np.prod(shape[1:])) * (0.1 if ".se" in name else 1.0))
            weights[name] = generator.standard_normal(shape, np.float32) * deviation
        elif name.endswith(("bias", "running_mean")):
            weights[name] = generator.standard_normal(shape, np.float32) * np.float32(0.1)
        else:
            weights[name] = generator.random(shape, np.float32) / 2 + np.float32(0.5)
    return weights


def draw_pictures(batch: int, side: int) -> np.ndarray:
    """Pictures (batch, side, side, 3) between -1 and 1."""
    return np.random.default_rng(side).random((batch, side, side, 3), np.float32) * 2 - 1


def main() -> None:
    """Asks the reference models."""
    import timm
    import torch
    import torchvision

    def build(spelling, **options):
        library, name = spelling.split(":")
        if library == "tv":
            return torchvision.models.get_model(name, weights=None, **options)
        return timm.create_model(name, pretrained=False, **options)

    def fill(model):
        own = {name: tuple(value.shape) for name, value in model.state_dict().items() if value.ndim}
        weights = {name: torch.from_numpy(value) for name, value in draw_weights(own).items()}
        model.load_state_dict(weights, strict=False)
        return model

    def pictures(batch, side):
        return torch.from_numpy(draw_pictures(batch, side)).permute(0, 3, 1, 2)

    goldens = {}
    for name, (_, spelling) in LOGITS.items():
        extra = {"init_weights": False} if spelling in ("tv:googlenet", "tv:inception_v3") else {}
        model = fill(build(spelling, **extra)).eval()
        with torch.no_grad():
            goldens[f"{name}/logits"] = model(pictures(1, picture_side(name)))[0].numpy()
        print(name, float(goldens[f"{name}/logits"].std()), flush=True)
    for name in TRAINED:
        extra = {"init_weights": False, "dropout": 0.0, "dropout_aux": 0.0} if name == "googlenet_bn" else {}
        # In double precision: in single, the reference's own gradients are off by up to a percent.
        model = fill(build(LOGITS[name][1], **extra)).double().train()
        labels = torch.tensor(TRAIN_LABELS)
        output = model(pictures(len(TRAIN_LABELS), TRAIN_SIZE).double())
        loss_of = torch.nn.functional.cross_entropy
        if name == "googlenet_bn":
            loss = loss_of(output.logits, labels)
            loss = loss + 0.3 * (loss_of(output.aux_logits1, labels) + loss_of(output.aux_logits2, labels))
        else:
            loss = loss_of(output, labels)
        loss.backward()
        goldens[f"{name}/loss"] = loss.detach().numpy()
        for parameter, value in model.named_parameters():
            goldens[f"{name}/gradient/{parameter}"] = value.grad.norm().numpy()
        print(name, float(loss), flush=True)
    np.savez_compressed(FILE, **goldens)


if __name__ == "__main__":
    main()
