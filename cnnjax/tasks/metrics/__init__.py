"""What an evaluation measures: parts that are put together over batches, and numbers of whole data sets.

`Mean`, `Sums` and `Rows` are made in the compiled step, batch by batch, and merged. From what they have gathered come,
on the host and in NumPy, the numbers of a field: average precision of detections by the rules of VOC and of COCO,
overlaps of label maps, and found instances.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
