"""Small masks pasted into boxes by torchvision, and by PyTorch's `grid_sample` as detectron2 calls it.

Run with PyTorch and torchvision (torch 2.14.1, torchvision 0.29.1; seconds), this file writes `torch_goldens.npz`. The
tests draw the same masks and boxes with NumPy and need no PyTorch:

    python tests/functional/masks/torch_goldens.py
"""

from pathlib import Path

import numpy as np

FILE = Path(__file__).with_suffix(".npz")

SIZE = (37, 45)


def draw() -> tuple[np.ndarray, np.ndarray]:
    """Masks (9, 28, 28) from 0 to 1, and boxes: within, across each border, around all, thin, tiny, on whole pixels."""
    generator = np.random.default_rng(28)
    masks = generator.random((9, 28, 28), np.float32)
    boxes = [
        (5.3, 7.9, 30.2, 33.3),
        (-8.6, 4.2, 12.7, 20.1),
        (30.4, -9.1, 60.3, 14.8),
        (10.2, 25.7, 22.6, 49.9),
        (-20.5, -15.25, 70.75, 60.5),
        (12.0, 3.0, 13.2, 35.0),
        (20.3, 20.6, 20.9, 21.1),
        (8.0, 6.0, 36.0, 34.0),
        (0.0, 0.0, 45.0, 37.0),
    ]
    return masks, np.array(boxes, np.float32)


def main() -> None:
    """Asks torchvision and PyTorch."""
    import torch
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    masks, boxes = (torch.from_numpy(array) for array in draw())
    pasted = {"integer": paste_masks_in_image(masks[:, None], boxes, SIZE)[:, 0]}
    # The formula of detectron2's _do_paste_mask, for whole pictures.
    places = []
    for axis, size in ((0, SIZE[1]), (1, SIZE[0])):
        low, high = boxes[:, axis, None], boxes[:, axis + 2, None]
        places.append((torch.arange(size) + 0.5 - low) / (high - low) * 2 - 1)
    x, y = places[0][:, None, :].expand(-1, *SIZE), places[1][:, :, None].expand(-1, *SIZE)
    grid = torch.stack([x, y], dim=3)
    pasted["float"] = torch.nn.functional.grid_sample(masks[:, None], grid, align_corners=False)[:, 0]
    np.savez_compressed(FILE, **{rule: array.numpy() for rule, array in pasted.items()})


if __name__ == "__main__":
    main()
