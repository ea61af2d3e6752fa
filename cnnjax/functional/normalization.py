r"""Normalisation as pure functions: batch, layer, instance, group, and local response.

All but the last are one formula, $y = \gamma \, (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta$, and differ in the axes
of the mean $\mu$ and the variance $\sigma^2$; $\gamma$ (`scale`) and $\beta$ (`bias`) always belong to channels. Only
the batch's statistics take a mask of examples and the name of a mapped axis: all others treat each example by itself,
so what else is in the batch cannot change them.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import index

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from cnnjax.functional.geometry import whole
from cnnjax.functional.operands import masked
from cnnjax.functional.precision import at_least_float32, require_floating

# Squared means up to so many variances leave a variance of one pass in float32 exact to 1e-4.
_LARGEST_MEAN = 256.0


def batch_statistics(
    images: Float[Array, "batch *spatial channels"],
    *,
    where: Bool[Array, "batch"] | None = None,
    axis_name: str | None = None,
    axis_index_groups: Sequence[Sequence[int]] | None = None,
) -> tuple[Float[Array, "channels"], Float[Array, "channels"]]:
    r"""Mean and (biased) variance of every channel, over the batch and all positions.

    $$\mu = E[x], \qquad \sigma^2 = E[(x - \mu)^2]$$

    In float32, or float64 where the images are. `where` leaves out examples (a padded batch). `axis_name` pools the
    moments over a mapped axis of that name, `axis_index_groups` over groups of its replicas, such as
    `[[0, 1], [2, 3]]`; under `jit` with a sharded batch the statistics are global by themselves. Those of a batch
    without examples are NaN; those of one whose examples `where` leaves out, every one, are zero.

    One pass over the images finds both, $\sigma^2 = E[x^2] - \mu^2$; a second one follows only where that would lose
    the variance to rounding, because the mean of a channel is more than sixteen times its deviation.

    Raises:
        ValueError: `where` is not one flag per example, the groups do not hold each replica once or differ in size or
            came without `axis_name`, or the images are not floating point or have no channels.
    """
    values = _precise(images)
    if where is not None:
        where = jnp.asarray(where)
        if where.shape != images.shape[:1]:
            raise ValueError(f"where has shape {where.shape}; expected {images.shape[:1]}, a flag per example")
        if where.dtype != jnp.bool_:
            raise ValueError(f"where: {where.dtype} came, bool was expected; compare with something first")

        # Before squaring: not even a NaN may reach the gradient of an example that is left out.
        values = masked(values, where)

    def average(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        means = _means(*(masked(array, where) for array in arrays), axes=tuple(range(images.ndim - 1)))
        if where is None:
            return _mean_of_replicas(means, axis_name, axis_index_groups)
        *means, share = _mean_of_replicas((*means, jnp.mean(where, dtype=values.dtype)), axis_name, axis_index_groups)
        # A batch with all examples left out has mean and variance zero, not NaN.
        share = jnp.where(share > 0, share, 1.0)
        return tuple(mean / share for mean in means)

    mean, variance = _statistics(values, average)
    return mean.reshape(-1), variance.reshape(-1)


def normalize(
    images: Float[Array, "batch *spatial channels"],
    mean: Float[Array, "channels"],
    variance: Float[Array, "channels"],
    *,
    scale: Float[Array, "channels"] | None = None,
    bias: Float[Array, "channels"] | None = None,
    epsilon: float = 1e-5,
    dtype: DTypeLike | None = None,
) -> Float[Array, "batch *spatial channels"]:
    r"""Normalises every channel with given statistics, in float32 (float64 where the images are).

    $$y = \gamma \, (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta$$

    The result has `dtype`, or that of the images.

    Raises:
        ValueError: mean, variance, scale or bias is not one entry per channel, epsilon is negative, or the images are
            not floating point or have no channels.

    Reference: Ioffe and Szegedy (2015), "Batch Normalization", algorithm 1.
    """
    values = _precise(images)
    mean, variance = _per_channel("mean", mean, values), _per_channel("variance", variance, values)
    return _apply(values, mean, variance, scale, bias, epsilon, dtype or images.dtype)


def batch_norm(
    images: Float[Array, "batch *spatial channels"],
    *,
    scale: Float[Array, "channels"] | None = None,
    bias: Float[Array, "channels"] | None = None,
    epsilon: float = 1e-5,
    where: Bool[Array, "batch"] | None = None,
    axis_name: str | None = None,
    axis_index_groups: Sequence[Sequence[int]] | None = None,
) -> Float[Array, "batch *spatial channels"]:
    """Batch normalisation by the batch's own statistics: `normalize` after `batch_statistics`.

    Raises:
        ValueError: as those two.

    Reference: Ioffe and Szegedy (2015), "Batch Normalization", algorithm 1.
    """
    mean, variance = batch_statistics(images, where=where, axis_name=axis_name, axis_index_groups=axis_index_groups)
    return normalize(images, mean, variance, scale=scale, bias=bias, epsilon=epsilon)


def layer_norm(
    images: Float[Array, "batch *spatial channels"],
    *,
    axes: int | Sequence[int] = -1,
    scale: Float[Array, "channels"] | None = None,
    bias: Float[Array, "channels"] | None = None,
    epsilon: float = 1e-6,
    dtype: DTypeLike | None = None,
) -> Float[Array, "batch *spatial channels"]:
    """Layer normalisation: statistics of each example over `axes`.

    The last axis by default, each position by itself, as in Flax; `axes=(1, 2, 3)` takes whole two-dimensional
    images, the layer normalisation of Wu and He's figure 2. The result has `dtype`, or that of the images. Epsilon is
    Flax's; PyTorch's is 1e-5.

    Raises:
        ValueError: an axis is not an integer, out of range, the batch's or there twice, scale or bias is not one entry
            per channel, epsilon is negative, or the images are not floating point or have no channels.

    Reference: Ba, Kiros and Hinton (2016), "Layer Normalization", section 3; Wu and He (2018), "Group Normalization",
    section 3.1.

    >>> layer_norm(jnp.array([[1.0, 3.0], [5.0, 9.0]])).round(3)
    Array([[-1.,  1.],
           [-1.,  1.]], dtype=float32)
    """
    values = _precise(images)
    rank = images.ndim
    try:
        given = tuple(map(index, axes)) if isinstance(axes, Iterable) else (index(axes),)
    except TypeError:
        raise ValueError(f"axes={axes!r} is not whole; expected an integer, or several, from 1 to {rank - 1}") from None
    taken = {axis % rank for axis in given}
    if not all(-rank <= axis < rank for axis in given) or len(taken) < max(len(given), 1) or 0 in taken:
        raise ValueError(
            f"axes={axes} of images of shape {images.shape}; expected axes from 1 to {rank - 1}, each once:"
            " examples are normalised one by one, so the batch axis 0 stays out"
        )
    average = partial(_means, axes=tuple(sorted(taken)))
    # A constant changes nothing. A pass of its own for it costs next to nothing where the last axis is summed.
    values = values - lax.stop_gradient(*average(values))
    mean, variance = _one_pass(values, average)
    return _apply(values, mean, jnp.maximum(variance, 0.0), scale, bias, epsilon, dtype or images.dtype)


def instance_norm(
    images: Float[Array, "batch *spatial channels"],
    *,
    scale: Float[Array, "channels"] | None = None,
    bias: Float[Array, "channels"] | None = None,
    epsilon: float = 1e-6,
    dtype: DTypeLike | None = None,
) -> Float[Array, "batch *spatial channels"]:
    """Instance normalisation: statistics of each channel of each example, over all positions.

    The result has `dtype`, or that of the images. Epsilon is Flax's; PyTorch's is 1e-5.

    Raises:
        ValueError: scale or bias is not one entry per channel, epsilon is negative, or the images are not floating
            point or have no spatial axis.

    Reference: Ulyanov, Vedaldi and Lempitsky (2016), "Instance Normalization", section 2.
    """
    values = _precise(images, least_rank=3)
    mean, variance = _statistics(values, partial(_means, axes=tuple(range(1, images.ndim - 1))))
    return _apply(values, mean, variance, scale, bias, epsilon, dtype or images.dtype)


def group_norm(
    images: Float[Array, "batch *spatial channels"],
    groups: int,
    *,
    scale: Float[Array, "channels"] | None = None,
    bias: Float[Array, "channels"] | None = None,
    epsilon: float = 1e-6,
    dtype: DTypeLike | None = None,
) -> Float[Array, "batch *spatial channels"]:
    """Group normalisation: statistics of each run of `channels / groups` channels of each example, over all positions.

    One group is the layer normalisation of whole images; as many groups as channels, instance normalisation. The
    result has `dtype`, or that of the images. Epsilon is Flax's; PyTorch's is 1e-5.

    Raises:
        ValueError: the groups are not a positive integer that divides the channels, scale or bias is not one entry per
            channel, epsilon is negative, or the images are not floating point or have no channels.

    Reference: Wu and He (2018), "Group Normalization", section 3.1.
    """
    values = _precise(images)
    channels = images.shape[-1]
    groups = whole(groups, "groups")
    if channels % groups:
        raise ValueError(f"groups={groups} must divide the {channels} channels of images of shape {images.shape}")

    # Over positions first: three times as fast as over images reshaped to groups, whose last axis is short.
    def average(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        means = _means(*arrays, axes=tuple(range(1, images.ndim - 1)))
        runs = (mean.reshape(*mean.shape[:-1], groups, channels // groups) for mean in means)
        return tuple(jnp.repeat(jnp.mean(run, -1), channels // groups, axis=-1) for run in runs)

    mean, variance = _statistics(values, average)
    return _apply(values, mean, variance, scale, bias, epsilon, dtype or images.dtype)


def local_response_norm(
    images: Float[Array, "batch *spatial channels"],
    *,
    size: int = 5,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 2.0,
    dtype: DTypeLike | None = None,
) -> Float[Array, "batch *spatial channels"]:
    r"""Divides every value by a power of the energy of the `size` channels around it: AlexNet's normalisation.

    $$b_i = a_i \Big/ \Big(k + \alpha \sum_{j = \max(0, i - r)}^{\min(N - 1, i + r)} a_j^2\Big)^\beta,
    \qquad r = (size - 1) / 2$$

    for channel $i$ of $N$, position by position, in float32 (float64 where the images are). The paper
    multiplies the sum by alpha; PyTorch and Caffe by alpha / size, so that `alpha` here is theirs divided by the size
    (and their k is 1 unless given). The result has `dtype`, or that of the images.

    Raises:
        ValueError: size is no integer, even (it has no middle) or below one, alpha is negative or k not positive (the
            denominator could vanish), or the images are not floating point or have no channels.

    Reference: Krizhevsky, Sutskever and Hinton (2012), "ImageNet Classification with Deep Convolutional Neural
    Networks", section 3.3.

    >>> local_response_norm(jnp.ones((1, 4)), size=3, alpha=1.0, beta=1.0, k=2.0).round(3)
    Array([[0.25, 0.2 , 0.2 , 0.25]], dtype=float32)
    """
    values = _precise(images)
    size = whole(size, "size")
    if size % 2 == 0:
        raise ValueError(f"size={size}; expected an odd number of channels, the same on both sides of the middle")
    if not (alpha >= 0 and k > 0):
        raise ValueError(f"alpha={alpha} and k={k}; expected alpha of zero or more and k above zero")
    ones = (1,) * (images.ndim - 1)
    energy = lax.reduce_window(
        jnp.square(values),
        0.0,
        lax.add,
        window_dimensions=(*ones, size),
        window_strides=(*ones, 1),
        padding=(*((0, 0),) * len(ones), (size // 2, size // 2)),
    )
    # A power would be taken twice, once more for its derivative; exp and log are also the faster way to it.
    return (values * jnp.exp(-beta * jnp.log(k + alpha * energy))).astype(dtype or images.dtype)


def _precise(images: jax.Array, least_rank: int = 2) -> jax.Array:
    """The images in the type of the statistics."""
    require_floating("images", images)
    if images.ndim < least_rank:
        spatial = " with a spatial axis or more" if least_rank > 2 else ""
        raise ValueError(f"images have shape {images.shape}; expected (batch, *spatial, channels){spatial}")
    return images.astype(at_least_float32(images.dtype))


def _means(*arrays: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, ...]:
    """Of each array over `axes`, which stay with extent one."""
    return tuple(jnp.mean(array, axes, keepdims=True) for array in arrays)


def _one_pass(values: jax.Array, average: Callable[..., tuple[jax.Array, ...]]) -> tuple[jax.Array, jax.Array]:
    """Mean and variance of what `average` takes the mean of, the variance with an error of `mean**2` by rounding."""
    mean, square = average(values, jnp.square(values))
    return mean, square - jnp.square(mean)


def _statistics(values: jax.Array, average: Callable[..., tuple[jax.Array, ...]]) -> tuple[jax.Array, jax.Array]:
    """Mean and variance of what `average` takes the mean of, in one pass, or in two where one loses the variance.

    The derivatives are those of one pass, whose errors are no larger than those of the values themselves.
    """
    mean, variance = _one_pass(values, average)
    x, rough_mean, rough_variance = lax.stop_gradient((values, mean, variance))

    def second_pass() -> tuple[jax.Array, jax.Array]:
        rest, exact = _one_pass(x - rough_mean, average)
        return rough_mean + rest, exact

    lost = jnp.any(jnp.square(rough_mean) > _LARGEST_MEAN * rough_variance)
    exact_mean, exact_variance = lax.cond(lost, second_pass, lambda: (rough_mean, rough_variance))
    return mean + (exact_mean - rough_mean), variance + (jnp.maximum(exact_variance, 0.0) - rough_variance)


def _mean_of_replicas(
    moments: tuple[jax.Array, ...], axis_name: str | None, groups: Sequence[Sequence[int]] | None
) -> tuple[jax.Array, ...]:
    if groups is None:
        return moments if axis_name is None else lax.pmean(moments, axis_name)
    if axis_name is None:
        raise ValueError(f"axis_index_groups={groups} came without axis_name; name the mapped axis that they divide")
    replicas = lax.axis_size(axis_name)
    members = sorted(replica for group in groups for replica in group)
    if len({len(group) for group in groups}) != 1 or members != list(range(replicas)):
        raise ValueError(
            f"axis_index_groups={groups}; expected groups of one size that hold each of the {replicas} replicas of"
            f" {axis_name!r} once"
        )
    # A gather, because `pmean` knows no groups where `shard_map` checks what varies over the mesh.
    return tuple(jnp.mean(lax.all_gather(moment, axis_name, axis_index_groups=groups), axis=0) for moment in moments)


def _apply(
    values: jax.Array,
    mean: jax.Array,
    variance: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array | None,
    epsilon: float,
    dtype: DTypeLike,
) -> jax.Array:
    """The formula, for statistics that have the rank of the values."""
    if not epsilon >= 0:
        raise ValueError(f"epsilon={epsilon}; expected zero or more, for it is added to the variance")
    factor = lax.rsqrt(variance + epsilon)
    scale = None if scale is None else _per_channel("scale", scale, values)
    bias = None if bias is None else _per_channel("bias", bias, values)
    if mean.shape[-1] == values.shape[-1]:
        factor = factor if scale is None else factor * scale
        # The mean's gradient goes through an offset that is zero, so that one sum of cotangents serves it and the bias.
        centre = lax.stop_gradient(mean)
        offset = (centre - mean) * factor
        result = (values - centre) * factor + (offset if bias is None else bias + offset)
    else:
        result = (values - mean) * factor
        result = result if scale is None else result * scale
        result = result if bias is None else result + bias
    return result.astype(dtype)


def _per_channel(name: str, array: jax.Array, values: jax.Array) -> jax.Array:
    """One entry per channel, in the type of the values and with their rank."""
    if array.shape != values.shape[-1:]:
        raise ValueError(f"{name} has shape {array.shape}; expected {values.shape[-1:]}, an entry per channel")
    return array.astype(values.dtype).reshape(*(1,) * (values.ndim - 1), *array.shape)
