"""What torchvision's nets for pixels make of weights that anyone can draw again (see `torch_goldens`).

Run with PyTorch and torchvision (Python 3.11, torch 2.14.1, torchvision 0.29.1), this file writes
`torch_dense_goldens.npz`: in double precision, logits of one small picture, and in training mode, without dropout, the
loss over both heads and every parameter's gradient norm.

    python -m tests.models.torch_dense_goldens
"""

from pathlib import Path

import numpy as np

from tests.models.torch_goldens import draw_pictures, draw_weights

FILE = Path(__file__).with_suffix(".npz")

# Of few classes, to keep the file small; sides are odd, so that strides leave a rest.
CLASSES, BATCH, HEIGHT, WIDTH = 5, 2, 25, 17
AUXILIARY_WEIGHT = 0.5


def pictures() -> np.ndarray:
    """A batch (batch, height, width, 3)."""
    return draw_pictures(BATCH, HEIGHT)[:, :, :WIDTH].astype(np.float64)


def labels() -> np.ndarray:
    """A class for every pixel."""
    return np.random.default_rng(3).integers(0, CLASSES, (BATCH, HEIGHT, WIDTH))


def main() -> None:
    """Asks torchvision."""
    import torch
    import torchvision

    model = torchvision.models.get_model(
        "fcn_resnet50", weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=True
    )
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items() if value.ndim}
    weights = {name: torch.from_numpy(value) for name, value in draw_weights(shapes).items()}
    model.load_state_dict(weights, strict=False)
    model = model.double().eval()
    images = torch.from_numpy(pictures()).permute(0, 3, 1, 2)
    with torch.no_grad():
        logits = model(images[:1])["out"][0].permute(1, 2, 0).numpy()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    output = model.train()(images)
    truth, loss_of = torch.from_numpy(labels()), torch.nn.functional.cross_entropy
    loss = loss_of(output["out"], truth) + AUXILIARY_WEIGHT * loss_of(output["aux"], truth)
    loss.backward()
    goldens = {"logits": logits, "loss": loss.detach().numpy()}
    goldens |= {f"gradient/{name}": value.grad.norm().numpy() for name, value in model.named_parameters()}
    np.savez_compressed(FILE, **goldens)
    print(np.abs(logits).max(), loss.item())


if __name__ == "__main__":
    main()
