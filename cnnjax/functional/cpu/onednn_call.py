"""oneDNN's convolution and matrix product, which jaxlib's CPU compiler knows as custom calls, and whether they work.

The names and the configuration of the calls are the compiler's own, and may change with any version of it. So they are
used only with versions of jaxlib that were tried, and only where two small cases agree with `lax` in this process. With
CNNJAX_ONEDNN=0 in the environment they are not used.
"""

import json
import logging
import os
import threading
import warnings
from functools import cache
from typing import Any

import jax
import numpy as np

from cnnjax.functional.correlation import Correlation, lax_correlation

# The environment variable that switches the calls off, with the value 0.
SWITCH = "CNNJAX_ONEDNN"

# The versions of jaxlib that the calls were tried with: from the first, and before the second.
_TRIED = (0, 12), (0, 13)

_logger = logging.getLogger("cnnjax")
_probing = threading.Lock()


def convolution(images: jax.Array, kernel: jax.Array, form: Correlation) -> jax.Array:
    """The output of a correlation of float32 arrays, without input dilation and negative padding."""
    output = jax.ShapeDtypeStruct((images.shape[0], *form.positions, kernel.shape[-1]), images.dtype)
    return _call("__onednn$convolution", output, {"onednn_conv_config": _configuration(form)}, images, kernel)


def matmul(
    first: jax.Array, second: jax.Array, *, transpose_first: bool = False, transpose_second: bool = False
) -> jax.Array:
    """The product of two float32 matrices, either of them transposed."""
    rows, columns = first.shape[-1 if transpose_first else -2], second.shape[-2 if transpose_second else -1]
    settings = {
        "optimization_config": _OPTIMIZATION,
        "transpose_a": transpose_first,
        "transpose_b": transpose_second,
    }
    output = jax.ShapeDtypeStruct((rows, columns), first.dtype)
    return _call("__onednn$matmul", output, {"onednn_matmul_config": settings}, first, second)


def is_available() -> bool:
    """Whether the calls are to be had in this process: tried once, at the first question, and for good."""
    if os.environ.get(SWITCH) == "0":
        return False
    with _probing:
        return _works()


_OPTIMIZATION = {"bias_broadcast": False, "user_scratchpad": False, "weights_prepacked": False}


def _call(target: str, output: jax.ShapeDtypeStruct, settings: Any, *arrays: jax.Array) -> jax.Array:
    settings = json.dumps({**settings, "outer_dimension_partitions": []})
    kind = jax.typeof(arrays[0]).update(shape=output.shape)
    return jax.ffi.ffi_call(target, kind, custom_call_api_version=1, legacy_backend_config=settings)(*arrays)


def _configuration(form: Correlation) -> dict[str, Any]:
    """What the call is told: numbers as text, channels last. Other layouts are taken too, and a thousand times slow."""
    rank = len(form.sizes)
    space = range(1, rank + 1)

    def array(batch: int, feature: int) -> dict[str, Any]:
        axes = {"batch_dim": str(batch), "feature_dim": str(feature), "spatial_dims": _texts(space)}
        return {"data": axes, "dims": "0"}

    return {
        "dims": str(rank + 2),
        "feature_groups": str(form.groups),
        "input": array(0, rank + 1),
        "output": array(0, rank + 1),
        "kernel": {
            "dims": "0",
            "filter": {
                "output_feature_dim": str(rank + 1),
                "input_feature_dim": str(rank),
                "spatial_dims": _texts(range(rank)),
                "shape": [],
            },
        },
        "optimization_config": _OPTIMIZATION,
        "window": {
            "size": [],
            "pad_left": _texts(before for before, _ in form.padding),
            "pad_right": _texts(after for _, after in form.padding),
            "strides": _texts(form.strides),
            "window_dilations": _texts(form.dilation),
        },
    }


def _texts(numbers: Any) -> list[str]:
    return [str(int(number)) for number in numbers]


@cache
def _works() -> bool:
    """Whether a convolution and a matrix product of small numbers are exactly what `lax` and NumPy make of them."""
    import jaxlib

    version = jaxlib.version.__version_info__[:2]
    if not _TRIED[0] <= version < _TRIED[1]:
        _logger.debug("oneDNN is not used: jaxlib %s was not tried with it", jaxlib.__version__)
        return False
    # Nothing in it is alike: sizes, window, strides, both sides of the padding, dilation, channels and outputs.
    form = Correlation((5, 7), (2, 3), (2, 1), ((1, 0), (0, 2)), (1, 1), (1, 2), 1)
    images, kernel = _whole_numbers(2, 5, 7, 3), _whole_numbers(2, 3, 3, 4)
    first, second = _whole_numbers(5, 3), _whole_numbers(5, 4)
    try:
        with jax.ensure_compile_time_eval(), jax.default_device(jax.local_devices(backend="cpu")[0]):
            found = jax.jit(
                lambda images, kernel, first, second: (
                    convolution(images, kernel, form),
                    lax_correlation(images, kernel, form),
                    matmul(first, second, transpose_first=True),
                )
            )(images, kernel, first, second)
        convolved, expected, multiplied = map(np.asarray, found)
    # Whatever goes wrong within the compiler, the calls are not to be had.
    except Exception as error:
        _logger.debug("oneDNN is not used: %s", str(error).splitlines()[0] if str(error) else type(error).__name__)
        return False
    if np.array_equal(convolved, expected) and np.array_equal(multiplied, first.T @ second):
        # Nor can programs with these calls be written to JAX's compile cache: each process compiles them itself.
        warnings.filterwarnings("ignore", "Error writing persistent compilation cache entry.*bad_alloc", UserWarning)
        return True
    _logger.debug("oneDNN is not used: it differs from lax on jaxlib %s", jaxlib.__version__)
    return False


def _whole_numbers(*shape: int) -> np.ndarray:
    """Small whole numbers, whose products and sums float32 holds exactly."""
    return (np.arange(np.prod(shape)) * 7 % 11 - 5).reshape(shape).astype(np.float32)
