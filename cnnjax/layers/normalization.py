"""Normalisation as Flax layers: Flax's names, shapes and initial values."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from cnnjax.functional import normalization
from cnnjax.layers.naming import layer_errors


@contextmanager
def pooled_statistics(axis_name: str | None) -> Generator[None, None, None]:
    """Has batch normalisation, Flax's too, of all models applied within pool its statistics over a mapped axis."""

    def pool(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        if axis_name is not None and isinstance(context.module, BatchNorm | nn.BatchNorm):
            # A module is frozen; this one was made for this call of the model and for no other.
            object.__setattr__(context.module, "axis_name", axis_name)
        return call(*args, **kwargs)

    with nn.intercept_methods(pool):
        yield


@contextmanager
def frozen_statistics(is_frozen: Callable[[str], bool]) -> Generator[None, None, None]:
    """Has batch normalisation, Flax's too, of some modules use and keep its running statistics while training.

    `is_frozen` is asked with the path of each such module, as "stage1/bn1".
    """

    def freeze(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if context.method_name == "__call__" and is_frozen("/".join(module.path)):
            if isinstance(module, BatchNorm):
                kwargs = kwargs | {"train": False}
            elif isinstance(module, nn.BatchNorm):
                # A module is frozen; this one was made for this call of the model and for no other.
                object.__setattr__(module, "use_running_average", None)
                args, kwargs = args[:1], kwargs | {"use_running_average": True}
        return call(*args, **kwargs)

    with nn.intercept_methods(freeze):
        yield


class _Norm(nn.Module, kw_only=True):
    """What all normalisations with a scale and a bias have.

    Parameters: `scale`, `bias` (channels,).

    Attributes:
        epsilon: added to the variance.
        use_scale: whether a scale is learned.
        use_bias: whether a bias is learned.
        dtype: of the output; the input's own where None. The statistics are float32 or wider.
        param_dtype: of scale and bias.
        scale_init: initial scale.
        bias_init: initial bias.
    """

    epsilon: float = 1e-6
    use_scale: bool = True
    use_bias: bool = True
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    scale_init: jax.nn.initializers.Initializer = nn.initializers.ones_init()
    bias_init: jax.nn.initializers.Initializer = nn.initializers.zeros_init()

    @nn.nowrap
    def _scale_and_bias(self, images: jax.Array) -> dict[str, jax.Array | None]:
        shape = images.shape[-1:]
        return {
            "scale": self.param("scale", self.scale_init, shape, self.param_dtype) if self.use_scale else None,
            "bias": self.param("bias", self.bias_init, shape, self.param_dtype) if self.use_bias else None,
        }


class BatchNorm(_Norm):
    """`functional.batch_norm` with scale, bias and running statistics.

    Parameters: `scale`, `bias` (channels,). Collection `batch_stats`: `mean`, `var` (channels,), float32.
    While training, the batch's statistics normalise and the running ones follow,
    `running = momentum * running + (1 - momentum) * batch`; otherwise the running ones normalise.

    Attributes:
        momentum: share of the old running statistics; PyTorch's 0.1 is 0.9 here.
        epsilon: added to the variance.
        axis_name: mapped axis over which the statistics are pooled, under `shard_map` or `pmap`.
        axis_index_groups: groups of that axis's replicas that share statistics; all of them where None.
        use_scale: whether a scale is learned.
        use_bias: whether a bias is learned.
        dtype: of the output; the input's own where None. The running statistics are always float32.
        param_dtype: of scale and bias.
        scale_init: initial scale.
        bias_init: initial bias.

    Reference: Ioffe and Szegedy (2015), "Batch Normalization", algorithms 1 and 2.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    axis_name: str | None = None
    axis_index_groups: Sequence[Sequence[int]] | None = None

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch *spatial channels"],
        *,
        train: bool,
        where: Bool[Array, "batch"] | None = None,
    ) -> Float[Array, "batch *spatial channels"]:
        """Normalises; `where` leaves examples out of the batch's statistics.

        Raises:
            ValueError: as `functional.batch_statistics` and `functional.normalize`, naming this layer.
        """
        shape = images.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", lambda: jnp.zeros(shape, jnp.float32))
        running_variance = self.variable("batch_stats", "var", lambda: jnp.ones(shape, jnp.float32))
        affine = self._scale_and_bias(images)
        with layer_errors(self):
            for name, running in (("mean", running_mean.value), ("var", running_variance.value)):
                if running.shape != shape:
                    raise ValueError(f"batch_stats {name} has shape {running.shape}; expected {shape}, as the channels")
            if train:
                # Initialisation needs no mesh: the axis may not be there yet.
                pooled = not self.is_initializing()
                mean, variance = normalization.batch_statistics(
                    images,
                    where=where,
                    axis_name=self.axis_name if pooled else None,
                    axis_index_groups=self.axis_index_groups if pooled else None,
                )
                if not self.is_initializing():
                    keep = self.momentum
                    for running, batch in ((running_mean, mean), (running_variance, variance)):
                        running.value = keep * running.value + (1 - keep) * batch.astype(running.value.dtype)
            else:
                mean, variance = running_mean.value, running_variance.value
            return normalization.normalize(images, mean, variance, epsilon=self.epsilon, dtype=self.dtype, **affine)


class FrozenBatchNorm(nn.Module):
    """Batch normalisation whose numbers all stay: scale, bias and statistics are in `batch_stats`, none is a parameter.

    So detectors keep the statistics of a trunk that was trained with large batches, where their own are of a few
    pictures. It begins as the identity, and is meant for weights that are loaded.

    Attributes:
        epsilon: added to the variance; 0 for torchvision's detectors of 2019 (`COCO_V1`).
        dtype: of the output; the input's own where None.

    Reference: He et al. (2016), "Deep Residual Learning for Image Recognition", appendix A.
    """

    epsilon: float = 1e-5
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch *spatial channels"], *, train: bool
    ) -> Float[Array, "batch *spatial channels"]:
        """Normalises by what is kept, while training too."""
        shape = images.shape[-1:]
        starts = {"scale": jnp.ones, "bias": jnp.zeros, "mean": jnp.zeros, "var": jnp.ones}
        scale, bias, mean, variance = (
            self.variable("batch_stats", name, start, shape, jnp.float32).value for name, start in starts.items()
        )
        with layer_errors(self):
            return normalization.normalize(
                images, mean, variance, epsilon=self.epsilon, dtype=self.dtype, scale=scale, bias=bias
            )


class LayerNorm(_Norm):
    """`functional.layer_norm` with a scale and a bias per channel.

    Parameters: `scale`, `bias` (channels,).

    Attributes:
        axes: of the statistics; the last, position by position, unless given. (1, 2, 3) is whole images.
        epsilon: added to the variance; Flax's, PyTorch's is 1e-5.
        use_scale: whether a scale is learned.
        use_bias: whether a bias is learned.
        dtype: of the output; the input's own where None. The statistics are float32 or wider.
        param_dtype: of scale and bias.
        scale_init: initial scale.
        bias_init: initial bias.

    Reference: Ba, Kiros and Hinton (2016), "Layer Normalization", section 3.
    """

    axes: int | Sequence[int] = -1

    @nn.compact
    def __call__(self, images: Float[Array, "batch *spatial channels"]) -> Float[Array, "batch *spatial channels"]:
        """Normalises; raises ValueError naming this layer where an axis does not fit."""
        with layer_errors(self):
            return normalization.layer_norm(
                images,
                axes=self.axes,
                epsilon=self.epsilon,
                dtype=self.dtype,
                **self._scale_and_bias(images),
            )


class InstanceNorm(_Norm):
    """`functional.instance_norm` with a scale and a bias per channel; parameters and other attributes as `LayerNorm`.

    Reference: Ulyanov, Vedaldi and Lempitsky (2016), "Instance Normalization", section 2.
    """

    @nn.compact
    def __call__(self, images: Float[Array, "batch *spatial channels"]) -> Float[Array, "batch *spatial channels"]:
        """Normalises; raises ValueError naming this layer where there is no spatial axis."""
        with layer_errors(self):
            return normalization.instance_norm(
                images, epsilon=self.epsilon, dtype=self.dtype, **self._scale_and_bias(images)
            )


class GroupNorm(_Norm):
    """`functional.group_norm` with a scale and a bias per channel; parameters and other attributes as `LayerNorm`.

    Attributes:
        groups: runs of channels that share statistics; must divide the channels.

    Reference: Wu and He (2018), "Group Normalization", section 3.1.
    """

    groups: int = 32

    @nn.compact
    def __call__(self, images: Float[Array, "batch *spatial channels"]) -> Float[Array, "batch *spatial channels"]:
        """Normalises; raises ValueError naming this layer where the groups do not divide the channels."""
        with layer_errors(self):
            return normalization.group_norm(
                images, self.groups, epsilon=self.epsilon, dtype=self.dtype, **self._scale_and_bias(images)
            )


class LocalResponseNorm(nn.Module):
    """`functional.local_response_norm` under a name; it has no parameters.

    Attributes:
        size: channels around each one, itself included; odd.
        alpha: weight of their energy; PyTorch's divided by the size.
        beta: power of the denominator.
        k: what the denominator starts from.
        dtype: of the output; the input's own where None.

    Reference: Krizhevsky, Sutskever and Hinton (2012), "ImageNet Classification with Deep Convolutional Neural
    Networks", section 3.3.
    """

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, images: Float[Array, "batch *spatial channels"]) -> Float[Array, "batch *spatial channels"]:
        """Normalises; raises ValueError naming this layer where an attribute is out of range."""
        with layer_errors(self):
            return normalization.local_response_norm(
                images, size=self.size, alpha=self.alpha, beta=self.beta, k=self.k, dtype=self.dtype
            )
