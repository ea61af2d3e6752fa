"""PyTorch's side of the comparison of dense prediction: torchvision's detectors and a U-Net, and nothing of ours."""

import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch_side import inference, main
from torch_unet import UNet
from torchvision.models.detection import MaskRCNN, ssd300_vgg16
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FasterRCNN
from torchvision.ops import FrozenBatchNorm2d


def detector(name, classes, size):
    """A detector of torchvision's whose pictures keep their size."""
    if name == "ssd300":
        return ssd300_vgg16(weights=None, weights_backbone=None, num_classes=classes + 1)
    # Normalisation is frozen and all else is trained: as from weights of the trunk, and the same work on both sides.
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=5
    )
    kind = {"faster_rcnn_resnet50_fpn": FasterRCNN, "mask_rcnn_resnet50_fpn": MaskRCNN}[name]
    return kind(backbone, classes + 1, min_size=min(size), max_size=max(size))


def confident(model):
    """Widens what classes are told by: else nothing of a net that has learned nothing is above the least score."""
    for name, parameter in model.named_parameters():
        if "cls_score.weight" in name or "classification_head" in name:
            parameter.data *= 30


def targets_of(arrays, masks):
    """The objects as torchvision takes them; the background is class 0."""
    told = []
    for boxes, classes, present, plane in zip(
        *(arrays[n] for n in ("boxes", "classes", "present", "masks")), strict=True
    ):
        one = {
            "boxes": torch.from_numpy(boxes[present]),
            "labels": torch.from_numpy(classes[present].astype(np.int64) + 1),
        }
        if masks:
            slots = np.flatnonzero(present)
            one["masks"] = torch.from_numpy(np.stack([plane == slot + 1 for slot in slots]).astype(np.uint8))
        told.append(one)
    return told


def detector_side(case, layout):
    """Training or inference of a detector; the weights are written for the other side."""
    torch.manual_seed(0)
    arrays = np.load(case["arrays"])
    height, width = arrays["image"].shape[1:3]
    model = detector(case["net"], case["classes"], (height, width))
    confident(model)
    np.savez(case["weights"], **{name: value.numpy() for name, value in model.state_dict().items()})
    model = model.to(memory_format=layout)
    # In pixels from 0 to 1 before torchvision's own standardisation.
    images = [torch.from_numpy(image).permute(2, 0, 1) for image in arrays["image"]]
    if not case["training"]:
        return inference(model, images)
    targets = targets_of(arrays, case["net"].startswith("mask"))
    rule = torch.optim.SGD(model.parameters(), 1e-4, momentum=0.9)
    model.train()

    def step():
        rule.zero_grad()
        sum(model(images, targets).values()).backward()
        rule.step()

    return step


def unet_side(case, layout):
    """Training of a U-Net."""
    torch.manual_seed(0)
    arrays = np.load(case["arrays"])
    model = UNet(3, 2, 16, 0.0).train().to(memory_format=layout)
    images = torch.from_numpy(arrays["image"]).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    labels = torch.from_numpy((arrays["masks"] > 0).astype(np.int64))
    rule = torch.optim.SGD(model.parameters(), 1e-4, momentum=0.9)

    def step():
        rule.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        rule.step()

    return step


def make_side(case, layout, device):
    """The step of a case in a memory layout."""
    return unet_side(case, layout) if case["net"] == "unet" else detector_side(case, layout)


if __name__ == "__main__":
    main(sys.argv[1:], make_side)
