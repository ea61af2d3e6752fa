"""Masks: COCO's run-length code and its polygon rule on the host, and small masks pasted into boxes on the device.

A run-length code is COCO's dictionary `{"size": [height, width], "counts": ...}`. Its runs go down the columns, one
column after the other, and are in turn of zeros and of ones, the first of zeros. `counts` is COCO's text, as str or
bytes, or the list of the run lengths; what is written here is always the text as str. All of it is NumPy and equal to
pycocotools bit by bit; `paste` is JAX.

A code that is no mask (runs that do not add up to the size, characters outside of the alphabet) is refused.
"""

from cnnjax.functional.masks.overlaps import rle_iou
from cnnjax.functional.masks.pasting import paste
from cnnjax.functional.masks.polygons import polygons_to_rle
from cnnjax.functional.masks.run_lengths import decode_rle, encode_rle, merge_rle, rle_area, rle_box

__all__ = ["decode_rle", "encode_rle", "merge_rle", "paste", "polygons_to_rle", "rle_area", "rle_box", "rle_iou"]
