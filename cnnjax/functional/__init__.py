"""Floor 0: arrays in, arrays out. No parameters, no Flax, no state."""

from cnnjax.functional.convolution import correlate
from cnnjax.functional.geometry import Window, dilated_size, output_size, slide, slide_all
from cnnjax.functional.normalization import batch_norm, batch_statistics, normalize
from cnnjax.functional.pooling import avg_pool, max_pool

__all__ = [
    "Window",
    "avg_pool",
    "batch_norm",
    "batch_statistics",
    "correlate",
    "dilated_size",
    "max_pool",
    "normalize",
    "output_size",
    "slide",
    "slide_all",
]
