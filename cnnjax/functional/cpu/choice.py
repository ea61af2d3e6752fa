"""Which method computes a product: by its shape and by the machine's instruction set, from measurements.

The rules are those of `experiments/benchmarks/cpu_products.py`, which times every method on the layers of classic nets.
Nothing here is chosen by the clock: two hosts of one kind compile the same program.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from cnnjax.functional.correlation import Correlation, Factor
from cnnjax.functional.cpu import matrices, onednn
from cnnjax.functional.cpu.machine import Instructions, Machine

Method: TypeAlias = Literal[
    "matrix",
    "onednn matrix",
    "multiply",
    "rows",
    "taps",
    "onednn taps",
    "planes",
    "apart",
    "convolution",
    "pieces",
    "onednn",
]

# Windows of more taps stay convolutions, for each tap costs compile time; so do kernels from one channel to many that
# hold more numbers than this.
_MOST_TAPS = 64
_MOST_PRODUCTS = 512
# More groups than this stay one grouped convolution, for each costs compile time.
_MOST_GROUPS_APART = 32
# And so do, except for the kernel's gradient, groups of fewer channels, which are not worth a call each.
_LEAST_CHANNELS_APART = 8

# How much of images and cotangents XLA's convolution sees at once in a piece of the kernel's gradient: three quarters
# of a core's own cache on the machines measured; a third less or more costs up to a fifth.
XLA_CACHE_BYTES = 3 << 19
# Fewer products than this are not worth a call; and a program without calls is kept by JAX's compile cache.
_LEAST_PRODUCTS = 1 << 25
# With fewer channels of the images, their gradient and the kernel's are XLA's.
_LEAST_CHANNELS = 8


@dataclass(frozen=True)
class Rules:
    """What differs between instruction sets.

    Attributes:
        cache_bytes: of images and cotangents in a piece of the kernel's gradient by oneDNN.
        least_channels: of the images, from which their output in many channels is oneDNN's.
        strides: whether images' gradients of strided windows are oneDNN's on small maps and for 1x1 windows, too.
        small_maps: positions up to which matrix products are XLA's.
    """

    cache_bytes: int
    least_channels: int
    strides: bool
    small_maps: int


RULES: dict[Instructions, Rules] = {
    "avx512": Rules(cache_bytes=3 << 18, least_channels=8, strides=False, small_maps=196),
    "avx2": Rules(cache_bytes=1 << 18, least_channels=2, strides=True, small_maps=0),
    "other": Rules(cache_bytes=1 << 18, least_channels=8, strides=False, small_maps=196),
}


@dataclass(frozen=True)
class Product:
    """A product to be computed: which factor, of what correlation, and how much of it there is."""

    result: Factor
    form: Correlation
    examples: int
    channels: int
    outputs: int

    @property
    def taps(self) -> int:
        """Pixels of the window."""
        return math.prod(self.form.window)

    @property
    def positions(self) -> int:
        """Positions of the window over one picture."""
        return math.prod(self.form.positions)

    @property
    def products(self) -> int:
        """Multiplications in all."""
        return self.examples * self.positions * self.taps * self.channels * self.outputs // self.form.groups

    @property
    def narrow(self) -> int:
        """The fewer of the channels of images and output."""
        return min(self.channels, self.outputs)


def methods(product: Product) -> list[Method]:
    """Every method that a product has, wherever it is good; for each group for itself, those of one group."""
    form = product.form
    side_by_side = max(form.input_dilation) == 1
    has: dict[Method, bool] = {
        "matrix": matrices.is_one_product(form),
        "onednn matrix": matrices.is_one_product(form),
        "multiply": side_by_side and form.groups == product.channels,
        "rows": side_by_side and form.groups == product.channels and product.result == "kernel" and len(form.sizes) > 1,
        "taps": side_by_side and form.groups == 1,
        "onednn taps": side_by_side and form.groups == 1,
        "planes": side_by_side and form.groups == 1 and product.result == "images",
        "apart": form.groups > 1,
        "convolution": True,
        "pieces": product.result == "kernel",
        "onednn": onednn.is_possible(product.result, form, product.channels, product.outputs),
    }
    return [method for method, possible in has.items() if possible]


def choose(product: Product, machine: Machine, *, partitioned: bool = False) -> Method:
    """The method for a product on a machine; where XLA divides the batch (`partitioned`), one that cuts nothing out."""
    with_onednn = _by_onednn(product, RULES[machine.instructions]) if machine.onednn else None
    return with_onednn or _by_xla(product, partitioned)


def _by_xla(product: Product, partitioned: bool) -> Method:
    """The method where there is nothing but XLA."""
    result, form = product.result, product.form
    if matrices.is_one_product(form):
        return "matrix"
    if max(form.input_dilation) == 1 and product.taps <= _MOST_TAPS:
        one_to_few = product.channels == 1 and result == "output" and product.outputs * product.taps <= _MOST_PRODUCTS
        if form.groups == product.channels > 1 and result == "kernel" and len(form.sizes) > 1 and not partitioned:
            return "rows"
        if form.groups == product.channels > 1 or one_to_few:
            return "multiply"
        if form.groups == 1 and _matrix_products_are_better(product):
            return "taps"
    if max(form.input_dilation) == form.groups == 1 and result == "images" and _is_worth_planes(product):
        return "planes"
    wide = product.narrow >= _LEAST_CHANNELS_APART * form.groups
    if 1 < form.groups <= _MOST_GROUPS_APART and (wide or partitioned or result == "kernel"):
        return "apart"
    return "pieces" if result == "kernel" and not partitioned else "convolution"


def _matrix_products_are_better(product: Product) -> bool:
    """Whether matrix products are better: for small maps of many channels, and all gradients of a 1x1 window."""
    if product.taps == 1:
        return product.result != "output"
    few = 64 if product.result == "output" else 256
    return product.positions <= few and product.narrow >= 128


def _is_worth_planes(product: Product) -> bool:
    """Whether images' planes are better than a convolution: few channels, and few numbers for each pixel of a plane."""
    taps, numbers, strides = product.taps, product.taps * product.channels, math.prod(product.form.strides)
    # Without a stride, a convolution of many outputs reads less than the planes are written of.
    many_outputs = strides == 1 and product.outputs >= 2 * numbers
    return product.channels <= 8 and taps <= 256 and numbers <= 150 * strides and not many_outputs


def _by_onednn(product: Product, rules: Rules) -> Method | None:
    """OneDNN's method, or None where XLA's is as good or better."""
    result, form = product.result, product.form
    strided = max(form.strides) > 1
    if matrices.is_one_product(form):
        return "onednn matrix" if result == "images" and product.products >= _LEAST_PRODUCTS else None
    if not onednn.is_possible(result, form, product.channels, product.outputs):
        return None
    if form.groups == product.channels > 1:
        small = result == "images" or product.positions <= 64
        return None if strided and small and result != "output" else "onednn"
    if form.groups > 1:
        return "onednn"
    if product.products < _LEAST_PRODUCTS:
        return None
    if product.taps == 1:
        # To many outputs, a convolution is better than the matrix product, but on small maps.
        if result == "output" and rules.small_maps < 64 < product.positions and product.outputs >= 4 * product.channels:
            return "onednn"
        small = product.positions <= rules.small_maps and result != "kernel"
        return "taps" if small or (strided and result == "images" and not rules.strides) else "onednn taps"
    match result:
        case "output":
            return "onednn" if product.channels >= rules.least_channels or product.outputs <= 16 else None
        case "images" if product.channels < _LEAST_CHANNELS:
            return None
        case "images" if product.narrow >= max(128, 2 * product.positions):
            return "onednn taps" if rules.strides else None
        case "images":
            return None if strided and product.positions <= 64 and not rules.strides else "onednn"
        case "kernel":
            return "onednn" if product.channels >= _LEAST_CHANNELS or product.outputs <= 16 else None
