"""The small SSD in PyTorch and torchvision, for a Python that has them and nothing of ours; its detections are written.

python torch_ssd.py ARRAYS.npz DETECTIONS.npz '{"seed": 0, ...}'
"""

import json
import sys
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torchvision import tv_tensors
from torchvision.models.detection._utils import BoxCoder, SSDMatcher
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image
from torchvision.transforms import v2

SIDE = 128
MEAN = (123.68, 116.779, 103.939)
CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))
MATCHER = SSDMatcher(0.5)


def unit(inputs, outputs, window, **around):
    conv = nn.Conv2d(inputs, outputs, window, **around)
    nn.init.xavier_uniform_(conv.weight)
    nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class SSD(nn.Module):
    """VGG-11 of width 16 as far as stage 5, dilated fc6, fc7, three extra maps, and two heads on each of five maps."""

    def __init__(self, per_place, width=16, hidden=128):
        super().__init__()
        stages, inputs = [], 3
        for channels, depth in zip((1, 2, 4, 8, 8), (1, 1, 2, 2, 2), strict=True):
            layers = []
            for _ in range(depth):
                layers.append(unit(inputs, channels * width, 3, padding=1))
                inputs = channels * width
            stages.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(stages)
        self.fc = nn.Sequential(
            nn.MaxPool2d(3, 1, 1), unit(inputs, hidden, 3, padding=6, dilation=6), unit(hidden, hidden, 1)
        )
        before = (hidden, 64, 64)
        self.extras = nn.ModuleList(
            nn.Sequential(unit(channels, 32, 1), unit(32, 64, 3, stride=2, padding=1)) for channels in before
        )
        widths = (8 * width, hidden, 64, 64, 64)
        self.classes = nn.ModuleList(
            nn.Conv2d(channels, 2 * each, 3, padding=1) for channels, each in zip(widths, per_place, strict=True)
        )
        self.boxes = nn.ModuleList(
            nn.Conv2d(channels, 4 * each, 3, padding=1) for channels, each in zip(widths, per_place, strict=True)
        )
        for head in (*self.classes, *self.boxes):
            nn.init.xavier_uniform_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, x):
        maps = []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number == 3:
                maps.append(x)
            if number < 4:
                x = F.max_pool2d(x, 2, ceil_mode=True)
        x = self.fc(x)
        maps.append(x)
        for extra in self.extras:
            x = extra(x)
            maps.append(x)

        def said(heads, width):
            parts = [
                head(x).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, width))
                for head, x in zip(heads, maps, strict=True)
            ]
            return torch.cat(parts, dim=1)

        return said(self.classes, 2), said(self.boxes, 4)


def loss_of(logits, offsets, anchors, boxes):
    """Of one picture: cross-entropy of positives and three times as many hard negatives, smooth L1 of positives."""
    if not len(boxes):
        return (logits.sum() + offsets.sum()) * 0
    mine = MATCHER(box_iou(boxes, anchors))
    positive = mine >= 0
    labels = positive.long()
    of_class = F.cross_entropy(logits, labels, reduction="none")
    negative = of_class.detach().masked_fill(positive, -torch.inf)
    hard = negative.argsort(descending=True)[: 3 * int(positive.sum())]
    counted = positive.clone()
    counted[hard] = True
    wanted = CODER.encode_single(boxes[mine[positive]], anchors[positive])
    of_box = F.smooth_l1_loss(offsets[positive], wanted, reduction="sum")
    return (of_class[counted].sum() + of_box) / positive.sum()


def detections(logits, offsets, anchors):
    """Boxes and scores of one picture after suppression."""
    scores = logits.softmax(-1)[:, 1]
    boxes = clip_boxes_to_image(CODER.decode_single(offsets, anchors), (SIDE, SIDE))
    some = torch.nonzero(scores > 0.01)[:, 0]
    some = some[scores[some].argsort(descending=True)[:400]]
    boxes, scores = boxes[some], scores[some]
    kept = batched_nms(boxes, scores, torch.zeros(len(boxes)), 0.45)[:200]
    return boxes[kept].numpy(), scores[kept].numpy()


def changed(augment, image, boxes):
    """A picture and its boxes after the draws."""
    told = {"boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(SIDE, SIDE))}
    told["labels"] = torch.zeros(len(boxes), dtype=torch.long)
    image, told = augment(tv_tensors.Image(image), told)
    return image, torch.as_tensor(told["boxes"])


def main(arrays, out, told):
    torch.manual_seed(told["seed"])
    data = np.load(arrays)
    anchors = torch.from_numpy(data["anchors"])
    images = torch.from_numpy(data["train_images"]).permute(0, 3, 1, 2)
    boxes = [torch.from_numpy(b[p]) for b, p in zip(data["train_boxes"], data["train_present"], strict=True)]
    mean = images.float().mean((0, 2, 3), keepdim=True)
    deviation = images.float().std((0, 2, 3), keepdim=True)
    augment = v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomPhotometricDistort(),
            v2.RandomZoomOut(fill=MEAN, side_range=(1.0, 2.0), p=0.5),
            v2.RandomIoUCrop(),
            v2.SanitizeBoundingBoxes(),
            v2.Resize((SIDE, SIDE), antialias=True),
        ]
    )
    net = SSD(told["per_place"]).to(memory_format=torch.channels_last)
    print(f"torch: {sum(parameter.numel() for parameter in net.parameters()):,} parameters", flush=True)
    per_epoch = len(images) // told["batch"]
    total = round(told["epochs"] * per_epoch)
    optimizer = torch.optim.AdamW(net.parameters(), lr=told["rate"], weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    started = time.perf_counter()
    order = []
    for step in range(total):
        if len(order) < told["batch"]:
            order = torch.randperm(len(images)).tolist()
        drawn = [changed(augment, images[index], boxes[index]) for index in order[: told["batch"]]]
        order = order[told["batch"] :]
        x = (torch.stack([image for image, _ in drawn]).float() - mean) / deviation
        logits, offsets = net(x.contiguous(memory_format=torch.channels_last))
        losses = [loss_of(*one, anchors, found) for *one, (_, found) in zip(logits, offsets, drawn, strict=True)]
        loss = torch.stack(losses).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % (5 * per_epoch) == 0:
            print(f"torch step {step + 1}/{total} loss {loss.item():.4f}", flush=True)
    seconds = time.perf_counter() - started
    net.eval()
    tested = torch.from_numpy(data["test_images"]).permute(0, 3, 1, 2).float()
    found = {}
    with torch.no_grad():
        for number, image in enumerate(tested):
            logits, offsets = net((image[None] - mean) / deviation)
            found[f"boxes{number}"], found[f"scores{number}"] = detections(logits[0], offsets[0], anchors)
    np.savez(out, seconds=seconds, **found)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
