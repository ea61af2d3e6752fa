"""What torchvision makes of boxes that anyone can draw again.

Run with PyTorch and torchvision (torch 2.14.1, torchvision 0.29.1; seconds), this file writes
`torchvision_goldens.npz`. The tests draw the same boxes with NumPy and need no PyTorch:

    python tests/functional/boxes/torchvision_goldens.py
"""

from pathlib import Path

import numpy as np

FILE = Path(__file__).with_suffix(".npz")
THRESHOLDS = (0.3, 0.5, 0.7)
NUMBERS = (1, 7, 256, 257, 1000, 3000)
ALIGNED, SCALES, BINS = (False, True), (0.25, 0.0625), (7, 3)


def random_boxes(number, seed, *, extent=800.0, sides=(4.0, 300.0)):
    """Boxes of all sizes, some reaching beyond a square picture."""
    generator = np.random.default_rng(seed)
    centre = generator.uniform(0, extent, (number, 2))
    half = np.exp(generator.uniform(*np.log(sides), (number, 2))) / 2
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)


def clustered(number, seed):
    """Boxes as a detector gives them: many around each object, with scores that all differ."""
    generator = np.random.default_rng(seed)
    boxes = random_boxes(max(1, number // 20), seed)[generator.integers(0, max(1, number // 20), number)]
    sides = (boxes[:, 2:] - boxes[:, :2])[:, [0, 1, 0, 1]]
    boxes = (boxes + sides * generator.normal(0, 0.12, (number, 4))).astype(np.float32)
    boxes = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1)
    return boxes, generator.permutation(number).astype(np.float32)


def adversarial(number, seed):
    """Whole coordinates, negative ones too, whose IoUs lie on thresholds; boxes without area, twins, equal scores."""
    generator = np.random.default_rng(seed)
    corner, side = generator.integers(-20, 20, (number, 2)), generator.integers(0, 11, (number, 2))
    boxes = np.concatenate([corner, corner + side], axis=1).astype(np.float32)
    return boxes, generator.integers(0, 9, number).astype(np.float32) / 8


def near_to(boxes):
    """Boxes moved and stretched by a fifth of their sides."""
    sides = (boxes[:, 2:] - boxes[:, :2])[:, [0, 1, 0, 1]]
    return boxes + sides * np.random.default_rng(3).uniform(-0.2, 0.2, boxes.shape)


def features(seed, height=50, width=40, channels=3):
    return np.random.default_rng(seed).normal(size=(height, width, channels))


def overlaps(seed, objects, anchors):
    """Overlaps on a coarse grid, so that many tie, and objects that nothing overlaps."""
    values = np.random.default_rng(seed).integers(0, 11, (objects, anchors)).astype(np.float32) / 10
    values[: objects // 3] *= 0.2
    return values


def main() -> None:
    import torch
    import torchvision
    from torchvision.models.detection import _utils, anchor_utils
    from torchvision.models.detection.image_list import ImageList
    from torchvision.ops import boxes as ops

    goldens = {}
    for name, draw in (("clustered", clustered), ("adversarial", adversarial)):
        for number in NUMBERS:
            boxes, scores = map(torch.from_numpy, draw(number, number))
            for threshold in THRESHOLDS:
                goldens[f"nms/{name}/{number}/{threshold}"] = ops.nms(boxes, scores, threshold).numpy().astype(np.int16)
    boxes, scores = map(torch.from_numpy, clustered(2000, 5))
    classes = torch.from_numpy(np.random.default_rng(6).integers(0, 5, 2000))
    goldens["class_nms"] = ops._batched_nms_vanilla(boxes, scores, classes, 0.5).numpy().astype(np.int16)

    first, second = (torch.from_numpy(random_boxes(40, seed).astype(np.float64)) for seed in (1, 2))
    near = torch.from_numpy(near_to(first.numpy()))
    for name in ("generalized", "distance", "complete"):
        loss = getattr(torchvision.ops, f"{name}_box_iou_loss")
        goldens[f"{name}"] = loss(torch.cat([first, first]), torch.cat([second, near])).numpy()
    goldens["iou"] = ops.box_iou(first, second).numpy()
    for weights in ((1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)):
        coder = _utils.BoxCoder(weights)
        goldens[f"encode/{weights[0]}"] = coder.encode_single(first, second).numpy()
        offsets = torch.from_numpy(np.random.default_rng(4).normal(0, 10, (40, 4)))
        goldens[f"decode/{weights[0]}"] = coder.decode_single(offsets, second).numpy()

    generator = anchor_utils.AnchorGenerator(((32,), (64, 90), (128,)), ((0.5, 1.0, 2.0),) * 3)
    maps = [torch.zeros(1, 1, *size) for size in ((20, 30), (10, 15), (4, 7))]
    pictures = ImageList(torch.zeros(1, 3, 160, 240), [(160, 240)])
    goldens["anchors"] = generator(pictures, maps)[0].numpy()
    ssd = anchor_utils.DefaultBoxGenerator(
        [[2], [2, 3], [2, 3], [2, 3], [2], [2]],
        scales=[0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05],
        steps=[8, 16, 32, 64, 100, 300],
    )
    maps = [torch.zeros(1, 1, side, side) for side in (38, 19, 10, 5, 3, 1)]
    goldens["default_boxes"] = ssd(ImageList(torch.zeros(1, 3, 300, 300), [(300, 300)]), maps)[0].numpy()

    for seed, (objects, anchors) in enumerate([(1, 50), (5, 200), (30, 400)]):
        values = torch.from_numpy(overlaps(seed, objects, anchors))
        for low_quality in (False, True):
            matcher = _utils.Matcher(0.7, 0.3, allow_low_quality_matches=low_quality)
            goldens[f"match/{seed}/{low_quality}"] = matcher(values).numpy().astype(np.int16)
        goldens[f"match/{seed}/forced"] = _utils.SSDMatcher(0.5)(values).numpy().astype(np.int16)

    boxes = random_boxes(60, 7)
    boxes[0], boxes[1] = [-50, -60, -20, -30], [10, 10, 10, 10]
    rows = torch.cat([torch.zeros(60, 1), torch.from_numpy(boxes)], dim=1)
    pixels = torch.from_numpy(features(8)).permute(2, 0, 1)[None]
    for scale in SCALES:
        for kind in (torch.float32, torch.float64):
            maps = pixels.to(kind).clone().requires_grad_()
            for aligned in ALIGNED:
                for samples in (2, 0):
                    out = torchvision.ops.roi_align(maps, rows.to(kind), BINS, scale, samples, aligned)
                    key = f"align/{scale}/{aligned}/{samples}/{str(kind)[6:]}"
                    goldens[key] = out.detach().permute(0, 2, 3, 1).numpy()
                    maps.grad = None
                    (out**2).sum().backward()
                    goldens[f"{key}/gradient"] = maps.grad[0].permute(1, 2, 0).numpy()
        maps = pixels.float().clone().requires_grad_()
        out = torchvision.ops.roi_pool(maps, rows, BINS, scale)
        goldens[f"pool/{scale}"] = out.detach().permute(0, 2, 3, 1).numpy()
        # On whole values there are ties, and the first of them has the gradient.
        maps = pixels.float().round().detach().requires_grad_()
        torchvision.ops.roi_pool(maps, rows, BINS, scale).sum().backward()
        goldens[f"pool/{scale}/gradient"] = maps.grad[0].permute(1, 2, 0).numpy()
    mapper = torchvision.ops.poolers.LevelMapper(2, 5)
    goldens["levels"] = mapper([torch.from_numpy(random_boxes(200, 9, sides=(2, 1500)))]).numpy().astype(np.int8) + 2
    np.savez_compressed(FILE, **goldens)


if __name__ == "__main__":
    main()
