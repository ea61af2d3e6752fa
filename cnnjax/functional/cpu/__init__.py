"""How a CPU computes the three products of a correlation: by shape, from measurements.

XLA takes its fast path only for convolutions from NHWC and HWIO to NHWC, and rewrites others into that form in the
entry computation alone: plain gradients inside `scan`, `while` and `cond` are two orders of magnitude slow, and so are
gradients of grouped convolutions everywhere. Here every product is such a convolution, matrix products for each tap, or
shifted multiply-adds; and where jaxlib has oneDNN, that library's convolution and matrix product.

    product.py       the three products, each by the method chosen for it
    choice.py        which method, by shape and instruction set
    matrices.py      dense layers, and what a window of one pixel is
    shifts.py        by the taps of the window
    convolutions.py  by `lax`'s convolution, the kernel's cotangent in pieces that fit a cache
    onednn.py        by oneDNN: convolutions, the images' cotangent by phases, the kernel's over (column, channel)
    onednn_call.py   oneDNN's convolution and matrix product as custom calls, and whether they are to be had
"""
