"""Floor 0: arrays in, arrays out. No parameters, no Flax, no state."""

from cnnjax.functional import boxes, kernels, losses, masks
from cnnjax.functional.adjoints import input_adjoint, kernel_adjoint
from cnnjax.functional.convolution import conv_transpose, convolve, correlate
from cnnjax.functional.counts import activation_bytes, activation_count, parameter_count
from cnnjax.functional.geometry import (
    Window,
    dilated_size,
    output_size,
    slide,
    slide_all,
    slide_all_transposed,
    slide_transposed,
    transposed_size,
)
from cnnjax.functional.normalization import (
    batch_norm,
    batch_statistics,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    normalize,
)
from cnnjax.functional.pooling import (
    adaptive_avg_pool,
    adaptive_max_pool,
    avg_pool,
    global_avg_pool,
    global_max_pool,
    global_min_pool,
    l2_pool,
    max_pool,
    min_pool,
)
from cnnjax.functional.separable import depthwise_conv, pointwise_conv, separable_conv

__all__ = [
    "Window",
    "activation_bytes",
    "activation_count",
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "avg_pool",
    "batch_norm",
    "batch_statistics",
    "boxes",
    "conv_transpose",
    "convolve",
    "correlate",
    "depthwise_conv",
    "dilated_size",
    "global_avg_pool",
    "global_max_pool",
    "global_min_pool",
    "group_norm",
    "input_adjoint",
    "instance_norm",
    "kernel_adjoint",
    "kernels",
    "l2_pool",
    "layer_norm",
    "local_response_norm",
    "losses",
    "masks",
    "max_pool",
    "min_pool",
    "normalize",
    "output_size",
    "parameter_count",
    "pointwise_conv",
    "separable_conv",
    "slide",
    "slide_all",
    "slide_all_transposed",
    "slide_transposed",
    "transposed_size",
]
