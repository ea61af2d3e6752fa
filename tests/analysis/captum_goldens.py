"""A small net whose weights anyone can draw again, and how Captum explains it.

Run with PyTorch and Captum (Python 3.11, torch 2.14.1, captum 0.9.0), this file writes `captum_goldens.npz`. The tests
draw the same weights with NumPy and need neither:

    python tests/analysis/captum_goldens.py
"""

from pathlib import Path

import numpy as np

FILE = Path(__file__).with_suffix(".npz")

TARGETS = (3, 1)
WINDOW, STRIDE, BASELINE = 4, 2, 0.25


def draw():
    """Pictures (batch, height, width, colours), and weights in PyTorch's layout, both in double precision."""
    random = np.random.default_rng(7)
    shapes = {
        "first": (4, 3, 3, 3),
        "first_bias": (4,),
        "second": (6, 4, 3, 3),
        "second_bias": (6,),
        "output": (5, 6),
        "output_bias": (5,),
    }
    weights = {name: random.normal(size=shape) / np.sqrt(np.prod(shape[1:]) or 1) for name, shape in shapes.items()}
    return random.uniform(size=(2, 12, 12, 3)), weights


def main():
    """Writes the file."""
    import torch
    from captum import attr
    from torch import nn

    images, weights = draw()

    class Net(nn.Module):
        """Convolution, rectifier, pool, convolution, rectifier, mean, dense."""

        def __init__(self):
            super().__init__()
            self.first, self.relu1 = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()
            self.second, self.relu2 = nn.Conv2d(4, 6, 3, padding=1), nn.ReLU()
            self.pool, self.output = nn.MaxPool2d(2), nn.Linear(6, 5)

        def forward(self, x):
            x = self.pool(self.relu1(self.first(x)))
            return self.output(self.relu2(self.second(x)).mean((2, 3)))

    net = Net().double()
    for name in ("first", "second", "output"):
        getattr(net, name).weight.data = torch.tensor(weights[name])
        getattr(net, name).bias.data = torch.tensor(weights[f"{name}_bias"])
    x, targets = torch.tensor(images).permute(0, 3, 1, 2).contiguous(), torch.tensor(TARGETS)

    def last(found):
        return found.detach().permute(0, 2, 3, 1).numpy()

    goldens = {
        "scores": net(x).detach().numpy(),
        "saliency": last(attr.Saliency(net).attribute(x.clone(), targets)),
        "gradient_times_input": last(attr.InputXGradient(net).attribute(x.clone(), targets)),
        "integrated_gradients": last(
            attr.IntegratedGradients(net).attribute(x.clone(), BASELINE, target=targets, n_steps=50)
        ),
        "guided_backpropagation": last(attr.GuidedBackprop(net).attribute(x.clone(), targets)),
        "deconvolution": last(attr.Deconvolution(net).attribute(x.clone(), targets)),
        "grad_cam": last(attr.LayerGradCam(net, net.relu2).attribute(x.clone(), targets, relu_attributions=True))[
            ..., 0
        ],
        "grad_cam_signed": last(attr.LayerGradCam(net, net.relu2).attribute(x.clone(), targets))[..., 0],
        "occlusion": last(
            attr.Occlusion(net).attribute(
                x.clone(), (3, WINDOW, WINDOW), (3, STRIDE, STRIDE), baselines=BASELINE, target=targets
            )
        ),
    }
    np.savez_compressed(FILE, **goldens)


if __name__ == "__main__":
    main()
