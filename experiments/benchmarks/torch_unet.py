"""A U-Net in PyTorch, for a Python that has it and nothing of ours: trained on arrays, its labels written.

python torch_unet.py ARRAYS.npz LABELS.npz '{"width": 16, ...}'
"""

import json
import sys
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class Block(nn.Sequential):
    def __init__(self, inputs, outputs):
        layers = []
        for channels in (inputs, outputs):
            conv = nn.Conv2d(channels, outputs, 3, padding=1)
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)
            layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU()]
        super().__init__(*layers)


class UNet(nn.Module):
    def __init__(self, inputs, classes, width, dropout, depth=4):
        super().__init__()
        self.dropout = dropout
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(Block(a, b) for a, b in zip([inputs, *widths[:-2]], widths[:-1], strict=True))
        self.bottom = Block(widths[-2], widths[-1])
        self.ups = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(widths[:-1]))
        self.up = nn.ModuleList(Block(2 * w, w) for w in reversed(widths[:-1]))
        self.output = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        skipped = []
        for level, block in enumerate(self.down):
            x = block(x)
            if level == len(self.down) - 1:
                x = F.dropout(x, self.dropout, self.training)
            skipped.append(x)
            x = F.max_pool2d(x, 2)
        x = F.dropout(self.bottom(x), self.dropout, self.training)
        for up, block in zip(self.ups, self.up, strict=True):
            x = block(torch.cat([skipped.pop(), F.relu(up(x))], dim=1))
        return self.output(x)


def main(arrays, out, told):
    torch.manual_seed(told["seed"])
    data = np.load(arrays)
    images = torch.from_numpy(data["train_images"]).permute(0, 3, 1, 2).float() / 255
    labels = torch.from_numpy(data["train_labels"]).long()
    mean, deviation = images.mean((0, 2, 3), keepdim=True), images.std((0, 2, 3), keepdim=True)
    net = UNet(images.shape[1], 2, told["width"], told["dropout"]).to(memory_format=torch.channels_last)
    per_epoch = len(images) // told["batch"]
    total = round(told["epochs"] * per_epoch)
    optimizer = torch.optim.AdamW(net.parameters(), lr=told["rate"], weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    started = time.perf_counter()
    order = []
    for step in range(total):
        if len(order) < told["batch"]:
            order = torch.randperm(len(images)).tolist()
        chosen = [order.pop() for _ in range(told["batch"])]
        x, y = (images[chosen] - mean) / deviation, labels[chosen]
        flipped = torch.rand(len(x)) < 0.5
        x = torch.where(flipped[:, None, None, None], x.flip(3), x).contiguous(memory_format=torch.channels_last)
        y = torch.where(flipped[:, None, None], y.flip(2), y)
        logits = net(x)
        shares, truth = logits.softmax(1), F.one_hot(y, 2).permute(0, 3, 1, 2)
        common, both = (shares * truth).sum((2, 3)), (shares + truth).sum((2, 3))
        loss = F.cross_entropy(logits, y) + ((both - 2 * common) / (both + 1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % per_epoch == 0:
            print(f"torch step {step + 1}/{total} loss {loss.item():.4f}", flush=True)
    seconds = time.perf_counter() - started
    net.eval()
    tested = torch.from_numpy(data["test_images"]).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        found = torch.cat([net((part - mean) / deviation).argmax(1) for part in tested.split(5)])
    np.savez(out, labels=found.numpy().astype(np.uint8), seconds=seconds)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
