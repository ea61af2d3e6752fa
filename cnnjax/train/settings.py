"""Groups of settings of a training run: frozen dataclasses, whose texts are the help of the command line."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """How gradients become updates."""

    name: Literal["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw", "lars", "lamb", "muon"] = "adamw"
    """Update rule, as in Optax."""
    learning_rate: float = 1e-3
    """Peak learning rate; the schedule scales it."""
    momentum: float = 0.9
    """Decay of the running gradient (momentum, nesterov, rmsprop, lars, muon) or first moment (adam, adamw, lamb)."""
    weight_decay: float = 0.0
    """Decay of the kernels; biases and scales of norms are spared. Decoupled in adamw, lamb and muon, else L2."""
    clip_norm: float = 0.0
    """Largest norm of the whole gradient; longer ones are shortened to it. 0 for none."""


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How the learning rate moves over the run."""

    name: Literal["constant", "step", "cosine", "linear", "exponential", "trapezoid", "one_cycle"] = "cosine"
    """step: a tenth at one half and at three quarters; cosine, linear: down to zero; exponential: down to a hundredth;
    trapezoid: constant, then down to zero over the last fifth; one_cycle: up, then down to zero."""
    warmup: float = 0.0
    """Share of the run in which the rate first rises in equal steps to its peak, the first step being above zero; in
    one_cycle from a 25th, over 0.3 where this is 0."""


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What happens to training pictures, each by its own draw, in this order; see `cnnjax.data.augment`."""

    random_crop: bool = False
    """Take a random part of every picture (at least --augmentation.smallest-crop of its area) at the image size."""
    smallest_crop: float = 0.08
    """Least share of the area that a random crop takes."""
    shift: int = 0
    """Most pixels a picture moves along each axis, zeros coming in."""
    flip: bool = False
    """Mirror half of the pictures left to right."""
    rotation: float = 0.0
    """Most degrees a picture turns, either way."""
    scale: float = 0.0
    """Most that a picture grows or shrinks, as a share of its size."""
    elastic: float = 0.0
    """Strength (alpha) of elastic deformation; pixels move by about 0.04 of it, which is 34 in the paper."""
    colour_jitter: float = 0.0
    """Strength of random brightness, contrast and saturation; a quarter of it for hue."""
    policy: Literal["none", "rand_augment", "trivial_augment"] = "none"
    """Published policies: RandAugment (2 changes of magnitude 9) or TrivialAugment."""
    erasing: float = 0.0
    """Probability of erasing a random rectangle."""
    cutout: int = 0
    """Side of a square that is blanked at a random place, in pixels."""
    mixup: float = 0.0
    """Alpha of mixup, which blends pairs of pictures and their labels."""
    cutmix: float = 0.0
    """Alpha of CutMix, which pastes a part of another picture, and mixes the labels."""


@dataclasses.dataclass(frozen=True)
class Loading:
    """How examples are read: a run computes the same whoever reads, and can be resumed with other numbers of them."""

    threads: int = 4
    """Threads that read ahead, in every worker; 0 reads in the loop."""
    workers: int = 0
    """Processes that read ahead; 0 for threads alone."""
    resident_mib: int = 512
    """Data sets of up to this size (MiB) are read once and live on the device; 0 reads all batch by batch."""
    unreadable: Literal["raise", "skip", "substitute"] = "raise"
    """Examples that cannot be read stop the run, are left out, or are replaced by the next."""
    most_unreadable: int = 100
    """Unreadable examples that are an error after all where they are more."""
    follow_links: bool = False
    """Follow symbolic links that lead out of the folder of the pictures; else they are refused."""


@dataclasses.dataclass(frozen=True)
class Saving:
    """When states are saved, and which of them are kept."""

    every: int | None = None
    """Steps between two checkpoints, besides the one at the end of each epoch."""
    keep_last: int = 2
    """Newest checkpoints that are kept: where the last one is damaged, the one before is used."""
    keep_best: int = 1
    """Checkpoints of highest score on the test set that are kept."""
    keep_every: int | None = None
    """Checkpoints of steps that are multiples of this are kept for good."""
