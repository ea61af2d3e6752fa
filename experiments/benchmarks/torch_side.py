"""PyTorch's side of the comparison of steps, for a Python that has PyTorch and torchvision, and nothing of ours."""

import json
import resource
import runpy
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from torchvision.models import resnet50, vgg11


class LeNet5(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1, self.c3 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.c5, self.f6, self.output = nn.Conv2d(16, 120, 5), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = F.avg_pool2d(torch.tanh(self.c1(x)), 2)
        x = F.avg_pool2d(torch.tanh(self.c3(x)), 2)
        return self.output(torch.tanh(self.f6(torch.tanh(self.c5(x)).flatten(1))))


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.stride, self.new = stride, outputs - inputs

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new))
        return F.relu(y + x)


class ResNet20(nn.Module):
    def __init__(self):
        super().__init__()
        blocks, inputs = [], 16
        for stage, outputs in enumerate((16, 32, 64)):
            for block in range(3):
                blocks.append(Block(inputs, outputs, 2 if stage and not block else 1))
                inputs = outputs
        self.stem, self.bn = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(*blocks)
        self.output = nn.Linear(64, 10)

    def forward(self, x):
        return self.output(self.blocks(F.relu(self.bn(self.stem(x)))).mean((2, 3)))


class MobileNetV1(nn.Module):
    def __init__(self):
        super().__init__()
        layers, channels = [self.unit(3, 32, 3, 2, 1)], 32
        for features, depth in ((64, 1), (128, 2), (256, 2), (512, 6), (1024, 2)):
            for place in range(depth):
                stride = 2 if features > 64 and place == 0 else 1
                layers.append(self.unit(channels, channels, 3, stride, channels))
                layers.append(self.unit(channels, features, 1, 1, 1))
                channels = features
        self.layers, self.output = nn.Sequential(*layers), nn.Linear(channels, 1000)

    @staticmethod
    def unit(inputs, outputs, window, stride, groups):
        conv = nn.Conv2d(inputs, outputs, window, stride, window // 2, groups=groups, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True))

    def forward(self, x):
        return self.output(self.layers(x).mean((2, 3)))


NETS = {"lenet5": LeNet5, "resnet20": ResNet20, "resnet50": resnet50, "vgg11": vgg11, "mobilenet_v1": MobileNetV1}


def training(model, images, labels, device):
    """A function that takes one training step."""
    rule = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)

    def step():
        rule.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = F.cross_entropy(model(images), labels)
        loss.backward()
        rule.step()

    return step


def inference(model, images):
    """A function that computes the logits."""
    model.eval()

    @torch.inference_mode()
    def step():
        model(images)

    return step


def timed(step, count, device):
    """Wall and processor seconds of so many steps."""
    began, worked = time.perf_counter(), time.process_time()
    for _ in range(count):
        step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began, time.process_time() - worked


def make_side(case, layout, device):
    """The step of a case in a memory layout."""
    batch, size, channels, classes = case["shape"]
    torch.manual_seed(0)
    model = NETS[case["net"]]().train().to(device, memory_format=layout)
    model = torch.compile(model) if case["gpu"] else model
    images = torch.randn(batch, channels, size, size, device=device).contiguous(memory_format=layout)
    labels = torch.randint(0, classes, (batch,), device=device)
    return training(model, images, labels, device) if case["training"] else inference(model, images)


def main(arguments, make=make_side):
    """Says its version, then answers each line, a number of steps, with wall and processor seconds and peak MiB."""
    case = json.loads(arguments[0])
    allocator = runpy.run_path(case["allocator"])
    assert not case["keep_memory"] or allocator["share_one_arena"]()
    torch.set_num_threads(case["threads"])
    device = "cuda" if case.get("gpu") else "cpu"
    if case.get("gpu") and not torch.cuda.is_available():
        raise SystemExit("PyTorch sees no GPU")
    print(json.dumps(torch.__version__), flush=True)
    sides = []
    for layout in [torch.channels_last] if case.get("gpu") else [torch.channels_last, torch.contiguous_format]:
        sides.append(make(case, layout, device))
        timed(sides[-1], 2, device)
    # The faster memory layout, as a user would choose it.
    step = min(sides, key=lambda step: min(timed(step, case.get("steps", 1), device)[0] for _ in range(3)))
    del sides
    assert not case["keep_memory"] or allocator["keep_memory"]()
    for line in sys.stdin:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps([*timed(step, int(line), device), peak]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
