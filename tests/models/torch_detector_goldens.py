"""What torchvision's detectors make of weights that anyone can draw again (see `torch_goldens`).

Run with PyTorch and torchvision (Python 3.11, torch 2.14.1, torchvision 0.29.1), this file writes
`torch_detector_goldens.npz`, all in double precision: of Mask R-CNN on a pyramid (which is Faster R-CNN with one head
more) proposals, logits and detections of two small pictures; of SSD300 logits and detections of one; and of both, with
samplers whose quotas are above the supply, so that nothing is left to chance, the parts of the loss and every
parameter's gradient norm.

    python -m tests.models.torch_detector_goldens
"""

from pathlib import Path
from typing import Any

import numpy as np

from tests.models.torch_goldens import draw_pictures, draw_weights

FILE = Path(__file__).with_suffix(".npz")

# Of few classes, to keep the file small. The sides are no multiples of 64, so that strides leave a rest.
CLASSES, BATCH, HEIGHT, WIDTH, SLOTS = 4, 2, 96, 128, 3
PROPOSALS, DETECTIONS = 60, 30

# As many as there cannot be.
QUOTA = 8192


def pictures(side: int = WIDTH) -> np.ndarray:
    """A batch (batch, height, width, 3)."""
    found = draw_pictures(BATCH, side).astype(np.float64)
    return found[:, :HEIGHT] if side == WIDTH else found[:1]


def objects() -> dict[str, np.ndarray]:
    """Objects in slots: of the first picture all, of the second one."""
    boxes = np.array([[[8, 10, 60, 70], [50, 20, 120, 90], [3, 60, 40, 95]], [[30, 5, 90, 80], [0] * 4, [0] * 4]])
    present = np.array([[True, True, True], [True, False, False]])
    masks = np.zeros((BATCH, HEIGHT, WIDTH), np.int32)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    for picture in range(BATCH):
        for slot in np.flatnonzero(present[picture]):
            left, top, right, bottom = boxes[picture, slot]
            within = ((columns + 0.5 - (left + right) / 2) / (right - left)) ** 2
            within += ((rows + 0.5 - (top + bottom) / 2) / (bottom - top)) ** 2
            masks[picture][within <= 0.25] = slot + 1
    classes = np.array([[0, 2, 1], [3, 0, 0]], np.int32)
    return {"boxes": boxes.astype(np.float64), "classes": classes, "present": present, "masks": masks}


def scaled(name: str) -> float:
    """By how much the drawn weights of a layer are made smaller: else all scores are 0 or 1, and boxes immense."""
    if "bbox_pred" in name or "regression_head" in name:
        return 0.05
    return 0.3 if any(part in name for part in ("cls_", "classification_head", "fc6")) else 1.0


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Of every name."""
    return {name: array * np.float32(scaled(name)) for name, array in draw_weights(shapes).items()}


def fill(model: Any) -> Any:
    """A model of PyTorch with these weights, in double precision."""
    import torch

    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items() if value.ndim}
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights(shapes).items()}, strict=False)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model.double().eval()


def of_mask_rcnn() -> dict[str, np.ndarray]:
    """Asks torchvision's Mask R-CNN, past its own resizing and normalising."""
    import torch
    import torchvision
    from torchvision.models.detection.image_list import ImageList

    model = fill(
        torchvision.models.get_model(
            "maskrcnn_resnet50_fpn",
            weights=None,
            weights_backbone=None,
            num_classes=CLASSES + 1,
            rpn_post_nms_top_n_test=PROPOSALS,
            rpn_post_nms_top_n_train=PROPOSALS,
            rpn_batch_size_per_image=QUOTA,
            box_batch_size_per_image=QUOTA,
            box_detections_per_img=DETECTIONS,
        )
    )
    images = torch.from_numpy(pictures()).permute(0, 3, 1, 2)
    listed = ImageList(images, [(HEIGHT, WIDTH)] * BATCH)
    goldens: dict[str, np.ndarray] = {}
    with torch.no_grad():
        maps = model.backbone(images)
        proposals, _ = model.rpn(listed, maps, None)
        pooled = model.roi_heads.box_roi_pool(maps, proposals, listed.image_sizes)
        logits, offsets = model.roi_heads.box_predictor(model.roi_heads.box_head(pooled))
        found, _ = model.roi_heads(maps, proposals, listed.image_sizes, None)
    for name, level in maps.items():
        goldens[f"level/{name}"] = level[:, ::64].permute(0, 2, 3, 1).numpy()
    goldens["proposals"] = np.stack([one.numpy() for one in proposals])
    goldens["logits"], goldens["offsets"] = logits.numpy(), offsets.numpy()[:, :8]
    for picture, one in enumerate(found):
        for name in ("boxes", "labels", "scores"):
            goldens[f"found{picture}/{name}"] = one[name].numpy()
        goldens[f"found{picture}/masks"] = one["masks"][:5, 0].numpy()
    truth = objects()
    targets = [
        {
            "boxes": torch.from_numpy(truth["boxes"][picture][present]),
            "labels": torch.from_numpy(truth["classes"][picture][present].astype(np.int64) + 1),
            "masks": torch.from_numpy(
                np.stack([truth["masks"][picture] == slot + 1 for slot in np.flatnonzero(present)]).astype(np.uint8)
            ),
        }
        for picture, present in enumerate(truth["present"])
    ]
    for part in (model.rpn, model.roi_heads):
        part.train()
    maps = model.backbone(images)
    proposals, losses = model.rpn(listed, maps, targets)
    _, others = model.roi_heads(maps, proposals, listed.image_sizes, targets)
    losses |= others
    sum(losses.values()).backward()
    goldens |= {f"loss/{name}": value.detach().numpy() for name, value in losses.items()}
    # Frozen normalisation, as where weights of the trunk are loaded, has no gradients.
    norms = [name for name, part in model.named_modules() if isinstance(part, torch.nn.BatchNorm2d)]
    goldens |= {
        f"gradient/{name}": value.grad.norm().numpy()
        for name, value in model.named_parameters()
        if name.rpartition(".")[0] not in norms
    }
    return {f"mask_rcnn/{name}": value for name, value in goldens.items()}


def default_boxes() -> np.ndarray:
    """SSD300's boxes for COCO, with sides of the picture's at most, in single precision."""
    smallest, maps, steps = (21, 45, 99, 153, 207, 261, 315), (38, 19, 10, 5, 3, 1), (8, 16, 32, 64, 100, 300)
    boxes = []
    for level, (side, step) in enumerate(zip(maps, steps, strict=True)):
        small, square = smallest[level], np.sqrt(smallest[level] * smallest[level + 1])
        sides = [(small, small), (square, square)]
        for ratio in (2, 3) if level in (1, 2, 3) else (2,):
            sides += [
                (small * np.sqrt(ratio), small / np.sqrt(ratio)),
                (small / np.sqrt(ratio), small * np.sqrt(ratio)),
            ]
        wide, high = np.minimum(np.array(sides), 300).T
        for row in range(side):
            for column in range(side):
                x, y = (column + 0.5) * step, (row + 0.5) * step
                boxes.append(np.stack([x - wide / 2, y - high / 2, x + wide / 2, y + high / 2], axis=1))
    return np.concatenate(boxes).astype(np.float32)


def of_ssd() -> dict[str, np.ndarray]:
    """Asks torchvision's SSD300, past its own normalising."""
    import torch
    import torchvision

    model = fill(
        torchvision.models.get_model(
            "ssd300_vgg16",
            weights=None,
            weights_backbone=None,
            num_classes=CLASSES + 1,
            detections_per_img=DETECTIONS,
            topk_candidates=50,
        )
    )
    images = torch.from_numpy(pictures(300)).permute(0, 3, 1, 2)
    from torchvision.models.detection.image_list import ImageList

    maps = list(model.backbone(images).values())
    said = model.head(maps)
    # Theirs are rounded at every step of their formula, and so off by some millionths of a pixel.
    anchors = [torch.from_numpy(default_boxes()).double()]
    (theirs,) = model.anchor_generator(ImageList(images, [(300, 300)]), maps)
    assert (anchors[0] - theirs).abs().max() < 1e-4
    (found,) = model.postprocess_detections(said, anchors, [(300, 300)])
    truth = objects()
    targets = [
        {
            "boxes": torch.from_numpy(truth["boxes"][0] * 2),
            "labels": torch.from_numpy(truth["classes"][0].astype(np.int64) + 1),
        }
    ]
    matched = []
    for target, boxes in zip(targets, anchors, strict=True):
        overlaps = torchvision.ops.box_iou(target["boxes"], boxes)
        matched.append(model.proposal_matcher(overlaps))
    losses = model.compute_loss(targets, said, anchors, matched)
    sum(losses.values()).backward()
    goldens = {f"found/{name}": found[name].detach().numpy() for name in ("boxes", "labels", "scores")}
    goldens["logits"] = said["cls_logits"].detach().numpy()[0, ::40]
    goldens["offsets"] = said["bbox_regression"].detach().numpy()[0, ::40]
    goldens |= {f"loss/{name}": value.detach().numpy() for name, value in losses.items()}
    goldens |= {f"gradient/{name}": value.grad.norm().numpy() for name, value in model.named_parameters()}
    return {f"ssd300/{name}": value for name, value in goldens.items()}


def main() -> None:
    """Asks torchvision."""
    goldens = of_mask_rcnn() | of_ssd()
    np.savez_compressed(FILE, **goldens)
    for name, value in goldens.items():
        if "loss" in name or "found" in name or "level" in name:
            print(name, value.shape, float(np.abs(value).max()) if value.size else "")
    print(FILE.stat().st_size)


if __name__ == "__main__":
    main()
