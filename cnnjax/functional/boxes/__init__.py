"""Axis-aligned boxes: coordinates, overlaps, offsets, anchors, matching, suppression, and features of regions.

A box is `(x_min, y_min, x_max, y_max)`, floating point and continuous; `from_xywh`, `from_centre`, `from_relative` and
`from_voc` stand at the door for boxes of other kinds. Everything runs under `jit` and `vmap` with static shapes: what
varies in number comes padded, with a mask or a count.
"""

from cnnjax.functional.boxes.anchors import (
    SSD300,
    SSD300_COCO,
    SSD512,
    DefaultBoxes,
    caffe_anchors,
    default_boxes,
    kmeans_sizes,
    pyramid_anchors,
)
from cnnjax.functional.boxes.coding import LARGEST_LOG_RATIO, decode, encode
from cnnjax.functional.boxes.coordinates import (
    area,
    clip,
    from_centre,
    from_relative,
    from_voc,
    from_xywh,
    is_valid,
    to_centre,
    to_relative,
    to_voc,
    to_xywh,
)
from cnnjax.functional.boxes.matching import Matches, match_by_thresholds, match_cells, match_with_forced
from cnnjax.functional.boxes.maxima import roi_pool
from cnnjax.functional.boxes.overlap import ciou, diou, giou, iou, pairwise_giou, pairwise_iou
from cnnjax.functional.boxes.regions import pyramid_levels, pyramid_roi_align, roi_align
from cnnjax.functional.boxes.sampling import Sample, hard_negatives, sample_boxes
from cnnjax.functional.boxes.suppression import Kept, SoftlyKept, class_nms, nms, soft_nms

__all__ = [
    "LARGEST_LOG_RATIO",
    "SSD300",
    "SSD300_COCO",
    "SSD512",
    "DefaultBoxes",
    "Kept",
    "Matches",
    "Sample",
    "SoftlyKept",
    "area",
    "caffe_anchors",
    "ciou",
    "class_nms",
    "clip",
    "decode",
    "default_boxes",
    "diou",
    "encode",
    "from_centre",
    "from_relative",
    "from_voc",
    "from_xywh",
    "giou",
    "hard_negatives",
    "iou",
    "is_valid",
    "kmeans_sizes",
    "match_by_thresholds",
    "match_cells",
    "match_with_forced",
    "nms",
    "pairwise_giou",
    "pairwise_iou",
    "pyramid_anchors",
    "pyramid_levels",
    "pyramid_roi_align",
    "roi_align",
    "roi_pool",
    "sample_boxes",
    "soft_nms",
    "to_centre",
    "to_relative",
    "to_voc",
    "to_xywh",
]
