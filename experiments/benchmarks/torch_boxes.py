"""Torchvision's side of the comparison of operations on boxes, for a Python that has it and nothing of ours.

Reads the names of tasks, a line each, and answers with milliseconds; at the end it writes the results.
"""

import json
import sys
import time

import numpy as np
import torch
from torchvision import ops


def main(arrays, results):
    drawn = {name: torch.from_numpy(array) for name, array in np.load(arrays).items()}
    fine, coarse = (drawn[name].permute(2, 0, 1)[None].contiguous() for name in ("fine", "coarse"))
    rois = torch.cat([torch.zeros(len(drawn["rois"]), 1), drawn["rois"]], dim=1)

    def gradient():
        maps = fine.clone().requires_grad_()
        (ops.roi_align(maps, rois[:512], (7, 7), 0.25, 2, False) ** 2).sum().backward()
        return maps.grad[0].permute(1, 2, 0)

    def compute(name):
        words = name.split()
        if name == "roi_align 1000":
            return ops.roi_align(fine, rois, (7, 7), 0.25, 2, False).permute(0, 2, 3, 1)
        if name == "roi_align 512 with gradient":
            return gradient()
        if name == "roi_pool 1000":
            return ops.roi_pool(coarse, rois, (7, 7), 1 / 16).permute(0, 2, 3, 1)
        kept = ops.nms(drawn[f"boxes {words[1]}"], drawn[f"scores {words[1]}"], float(words[-1]))
        return kept[: int(words[3])] if "to" in words else kept

    found = {}
    for line in sys.stdin:
        name = line.strip()
        if name not in found:
            found[name] = compute(name).detach().numpy()
        started = time.perf_counter()
        compute(name)
        print(json.dumps(1e3 * (time.perf_counter() - started)), flush=True)
    np.savez(results, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
