from .coco import CocoPrecision, coco_precision
from .instances import InstanceCounts, count_instances
from .objects import Detections
from .parts import Mean, Metric, Rows, Sums, masked_mean, means, merge
from .pixels import PictureOverlaps, PixelCounts, count_pixels
from .voc import VocPrecision, voc_precision

__all__ = [
    "CocoPrecision",
    "Detections",
    "InstanceCounts",
    "Mean",
    "Metric",
    "PictureOverlaps",
    "PixelCounts",
    "Rows",
    "Sums",
    "VocPrecision",
    "coco_precision",
    "count_instances",
    "count_pixels",
    "masked_mean",
    "means",
    "merge",
    "voc_precision",
]
