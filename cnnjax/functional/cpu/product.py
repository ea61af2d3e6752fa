"""The three products of a correlation on a CPU, each by the method that is chosen for it."""

from dataclasses import replace

import jax
import jax.numpy as jnp

from cnnjax.functional.correlation import Correlation, Factor, result_shape
from cnnjax.functional.cpu import convolutions, matrices, onednn, shifts
from cnnjax.functional.cpu.choice import RULES, XLA_CACHE_BYTES, Method, Product, choose
from cnnjax.functional.cpu.machine import Machine, instructions, this_machine
from cnnjax.functional.precision import at_least_float32


def cpu_product(
    first: jax.Array,
    second: jax.Array,
    *,
    result: Factor,
    form: Correlation,
    portable: bool = False,
    partitioned: bool = False,
) -> jax.Array:
    """The factor `result` from the two others; see `trilinear.product`. Half precision is computed in float32.

    Nothing of jaxlib's own is called where `portable` or another type than float32 is asked for. Where XLA divides the
    batch over devices (`partitioned`), nothing is cut out of it, for that would gather it first; so does XLA itself,
    before it convolves in groups, where there are too many of them to convolve apart.
    """
    if not (first.size and second.size):
        return jnp.zeros(result_shape(result, first, second, form), first.dtype)
    precise = at_least_float32(first.dtype)
    machine = this_machine(portable=portable or precise != jnp.float32)
    operands = first.astype(precise), second.astype(precise)
    return _product(*operands, result, form, machine, partitioned).astype(first.dtype)


def _product(
    first: jax.Array, second: jax.Array, result: Factor, form: Correlation, machine: Machine, partitioned: bool
) -> jax.Array:
    channels = first.shape[-2] * form.groups if result == "images" else first.shape[-1]
    examples = (second if result == "images" else first).shape[0]
    product = Product(result, form, examples, channels, second.shape[-1])
    method = choose(product, machine, partitioned=partitioned)
    if method != "apart":
        return compute(method, first, second, result, form)
    # Each group for itself; the kernel's input channels are those of one group already.
    ones, others = (jnp.split(array, form.groups, axis=-1) for array in (first, second))
    alone = replace(form, groups=1)
    parts = [_product(one, other, result, alone, machine, partitioned) for one, other in zip(ones, others, strict=True)]
    return jnp.concatenate(parts, axis=-1)


def compute(method: Method, first: jax.Array, second: jax.Array, result: Factor, form: Correlation) -> jax.Array:
    """A product by a method that it has."""
    match method:
        case "matrix":
            return matrices.as_one_product(first, second, result, form)
        case "onednn matrix":
            return matrices.as_one_product(first, second, result, form, matrices.by_onednn)
        case "multiply":
            return shifts.by_multiplying(first, second, result, form)
        case "rows":
            return shifts.kernel_by_rows(first, second, form)
        case "taps":
            return shifts.by_taps(first, second, result, form)
        case "onednn taps":
            return shifts.by_taps(first, second, result, form, matrices.by_onednn)
        case "planes":
            return shifts.by_planes(first, second, form)
        case "pieces":
            return convolutions.kernel_in_pieces(first, second, form, cache_bytes=XLA_CACHE_BYTES)
        case "onednn":
            cache_bytes = RULES[instructions()].cache_bytes
            return onednn.by_convolution(first, second, result, form, cache_bytes=cache_bytes)
        case _:
            return convolutions.by_convolution(first, second, result, form)
