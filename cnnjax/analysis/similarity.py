"""How alike two representations of the same pictures are: linear CKA between layers, and between runs."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnjax.analysis.inputs import check_finite
from cnnjax.analysis.layer_statistics import centred
from cnnjax.view.result import Figure, Result

# What unrelated representations may come to before a result says that there are few examples.
_CHANCE = 0.1


@dataclass(frozen=True, eq=False)
class Similarity(Result):
    """Similarity of every layer of one network, a row each, to every layer of another, a column each.

    Attributes:
        names: layers of the one.
        others: layers of the other.
        values: linear CKA, up to 1; of unrelated layers near 0 where it is `debiased`.
        debiased: whether what few examples add is taken off (see `cka`).
        examples: how many there were.
        chance: what plain CKA comes to on average over all orders of the examples of one of both, which are then
            unrelated.
    """

    names: tuple[str, ...]
    others: tuple[str, ...]
    values: np.ndarray
    debiased: bool
    examples: int
    chance: np.ndarray

    @property
    def scatter(self) -> float:
        r"""About how far debiased CKA of unrelated layers is from 0: $\sqrt{2 / (n (n - 3))}$ for n examples."""
        return math.sqrt(2 / (self.examples * (self.examples - 3))) if self.examples > 3 else math.inf

    def rows(self) -> list[dict[str, Any]]:
        """One record per layer, with a number for each layer of the other."""
        return [
            {"layer": name, **dict(zip(self.others, map(float, line), strict=True))}
            for name, line in zip(self.names, self.values, strict=True)
        ]

    def notes(self) -> list[str]:
        """That there are few examples, where unrelated layers would come to more than 0.1."""
        few, chance = f"{self.examples} examples are few: unrelated layers would", np.nan_to_num(self.chance).max()
        if self.debiased and self.scatter > _CHANCE:
            return [f"{few} scatter by about {self.scatter:.2g} around 0."]
        if not self.debiased and chance > _CHANCE:
            return [f"{few} have up to {chance:.2g} by plain CKA; debiased=True takes that off."]
        return []

    def draw(self) -> Figure:
        """The matrix in colours."""
        from cnnjax.view import plots

        label = "debiased linear CKA" if self.debiased else "linear CKA"
        return plots.matrix(
            self.values, self.names, self.others, title="Similarity of layers", label=label, limits=(0.0, 1.0)
        )


def cka(one: Any, other: Any, *, debiased: bool = True) -> float:
    r"""Linear centred kernel alignment of two representations of the same examples, (examples, ...) each.

    $$\frac{\mathrm{HSIC}(K, L)}{\sqrt{\mathrm{HSIC}(K, K) \, \mathrm{HSIC}(L, L)}}$$

    with the inner products of examples $K = X X^\top$, $L = Y Y^\top$: 1 for representations that are equal but for a
    rotation and a scale, the same for any number of features. NaN where one does not vary at all.

    Plain CKA takes $\mathrm{HSIC}(K, L) = \lVert Y^\top X \rVert_F^2$, for columns with their means taken off. It is
    near 1 for independent data too where there are fewer examples than features. Debiased, K and L lose their
    diagonals,

    $$\mathrm{HSIC}(K, L) = \frac{1}{n (n - 3)} \left(\mathrm{tr}(K L) + \frac{1^\top K 1 \, 1^\top L 1}{(n - 1)(n - 2)}
    - \frac{2}{n - 2} 1^\top K L 1\right)$$

    which is 0 on average for independent data, so that the alignment is near 0, and may lie below.

    Args:
        one: a representation.
        other: another, with any number of features.
        debiased: whether HSIC is estimated without bias; plain CKA otherwise.

    Raises:
        ValueError: other numbers of examples, or fewer than four; plain CKA needs two.

    Reference: Kornblith et al. (2019), "Similarity of Neural Network Representations Revisited", section 3; Song et al.
    (2012), "Feature Selection via Dependence Maximization", equation 5; Murphy, Zylberberg and Fyshe (2024),
    "Correcting Biased Centered Kernel Alignment Measures in Biological and Artificial Neural Networks".

    >>> x = np.array([[1.0, 2.0], [3.0, 5.0], [4.0, 1.0], [0.0, 0.0]])
    >>> round(cka(x, 3 * x @ np.array([[0.6, -0.8], [0.8, 0.6]])), 6)
    1.0
    """
    grams = [_gram(array) for array in (one, other)]
    if len(grams[0]) != len(grams[1]) or len(grams[0]) < _fewest(debiased):
        raise ValueError(f"{len(grams[0])} and {len(grams[1])} examples; expected the same, {_expected(debiased)}")
    return _alignment(*(_without_bias(gram) if debiased else gram for gram in grams))


def similarity(
    maps: Mapping[str, Any], others: Mapping[str, Any] | None = None, *, debiased: bool = True
) -> Similarity:
    """Linear CKA between the layers of a network, or of two, on the same pictures (see `cka`).

    The result notes where there are few examples: where unrelated layers would come to more than 0.1 (plain CKA by its
    mean over all orders of the examples, debiased CKA by its scatter, below 0.1 from 16 examples on).

    Args:
        maps: feature maps by layer, (examples, ...) each.
        others: those of another network or run; the same ones where left out.
        debiased: whether what few examples add is taken off; plain CKA otherwise.

    Raises:
        ValueError: no maps, or of other numbers of examples, or fewer than four (plain CKA needs two); numbers that are
            not finite.
    """
    for given in (maps, others or {}):
        if not isinstance(given, Mapping):
            raise ValueError(f"{type(given).__name__} came; expected maps by layer, as `feature_maps` gives them")
    for name, value in [*maps.items(), *(others or {}).items()]:
        if hasattr(value, "ndim"):
            check_finite(name, value)
    rows = {name: _gram(value) for name, value in maps.items() if hasattr(value, "ndim")}
    columns = (
        rows if others is None else {name: _gram(value) for name, value in others.items() if hasattr(value, "ndim")}
    )
    counts = {len(gram) for gram in (*rows.values(), *columns.values())}
    if not rows or not columns or len(counts) > 1 or min(counts) < _fewest(debiased):
        raise ValueError(
            f"maps of {sorted(counts)} examples; expected one number for all layers, {_expected(debiased)}"
        )
    (count,) = counts

    def of_pairs(compare: Callable[[np.ndarray, np.ndarray], float], prepare: Callable = lambda gram: gram) -> Any:
        ones, twos = ([prepare(gram) for gram in grams.values()] for grams in (rows, columns))
        return np.array([[compare(one, two) for two in twos] for one in ones])

    values = of_pairs(_alignment, _without_bias) if debiased else of_pairs(_alignment)
    return Similarity(tuple(rows), tuple(columns), values, debiased, count, of_pairs(_chance))


def _fewest(debiased: bool) -> int:
    return 4 if debiased else 2


def _expected(debiased: bool) -> str:
    return "four or more (plain CKA, debiased=False, takes two or more)" if debiased else "two or more"


def _gram(array: Any) -> np.ndarray:
    """Inner products of examples whose features have their means taken off."""
    array = np.asarray(array, np.float64)
    if array.ndim < 1:
        raise ValueError(f"a single number {array} came; expected an array (examples, ...)")
    columns = centred(array.reshape(len(array), -1))
    return columns @ columns.T


def _without_bias(gram: np.ndarray) -> np.ndarray:
    """Without its diagonal, so centred that sums of products of two are the unbiased HSIC times n (n - 3)."""
    count = len(gram)
    apart = gram - np.diag(np.diag(gram))
    sums = apart.sum(axis=0)
    apart = apart - (sums[:, None] + sums[None]) / (count - 2) + sums.sum() / ((count - 1) * (count - 2))
    apart = apart - np.diag(np.diag(apart))
    # Examples that are all equally far apart leave rounding alone.
    return apart if np.linalg.norm(apart) > 1e-12 * np.linalg.norm(gram) else np.zeros_like(gram)


def _alignment(one: np.ndarray, other: np.ndarray) -> float:
    lengths = np.linalg.norm(one) * np.linalg.norm(other)
    return float((one * other).sum() / lengths) if lengths > 0 else float("nan")


def _chance(one: np.ndarray, other: np.ndarray) -> float:
    """The mean of `_alignment` of centred inner products over all orders of the examples of one."""
    lengths = np.linalg.norm(one) * np.linalg.norm(other) * (len(one) - 1)
    return float(np.trace(one) * np.trace(other) / lengths) if lengths > 0 else float("nan")
