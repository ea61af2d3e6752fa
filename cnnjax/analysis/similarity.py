"""How alike two representations of the same pictures are: linear CKA between layers, and between runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnjax.analysis.inputs import check_finite
from cnnjax.analysis.statistics import centred
from cnnjax.view.result import Figure, Result


@dataclass(frozen=True, eq=False)
class Similarity(Result):
    """Similarity of every layer of one network, a row each, to every layer of another, a column each; 0 to 1."""

    names: tuple[str, ...]
    others: tuple[str, ...]
    values: np.ndarray

    def rows(self) -> list[dict[str, Any]]:
        """One record per layer, with a number for each layer of the other."""
        return [
            {"layer": name, **dict(zip(self.others, map(float, line), strict=True))}
            for name, line in zip(self.names, self.values, strict=True)
        ]

    def draw(self) -> Figure:
        """The matrix in colours."""
        from cnnjax.view import plots

        return plots.matrix(
            self.values, self.names, self.others, title="Similarity of layers", label="linear CKA", limits=(0.0, 1.0)
        )


def cka(one: Any, other: Any) -> float:
    r"""Linear centred kernel alignment of two representations of the same examples, (examples, ...) each.

    $$\frac{\lVert Y^\top X \rVert_F^2}{\lVert X^\top X \rVert_F \lVert Y^\top Y \rVert_F}$$

    for columns with their means taken off: 1 for representations that are equal but for a rotation and a scale, the
    same for any number of features. NaN where one does not vary at all.

    Raises:
        ValueError: other numbers of examples, or fewer than two.

    Reference: Kornblith et al. (2019), "Similarity of Neural Network Representations Revisited", section 3.

    >>> x = np.array([[1.0, 2.0], [3.0, 5.0], [4.0, 1.0]])
    >>> round(cka(x, 3 * x @ np.array([[0.6, -0.8], [0.8, 0.6]])), 6)
    1.0
    """
    grams = [_gram(array) for array in (one, other)]
    if len(grams[0]) != len(grams[1]) or len(grams[0]) < 2:
        raise ValueError(f"{len(grams[0])} and {len(grams[1])} examples; expected the same, two or more")
    return _alignment(*grams)


def similarity(maps: Mapping[str, Any], others: Mapping[str, Any] | None = None) -> Similarity:
    """Linear CKA between the layers of a network, or of two, on the same pictures (see `cka`).

    Args:
        maps: feature maps by layer, (examples, ...) each.
        others: those of another network or run; the same ones where left out.

    Raises:
        ValueError: no maps, or of other numbers of examples; numbers that are not finite.
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
    if not rows or not columns or len(counts) > 1 or min(counts) < 2:
        raise ValueError(f"maps of {sorted(counts)} examples; expected one number for all layers, two or more")
    values = np.array([[_alignment(row, column) for column in columns.values()] for row in rows.values()])
    return Similarity(tuple(rows), tuple(columns), values)


def _gram(array: Any) -> np.ndarray:
    """Inner products of examples whose features have their means taken off."""
    array = np.asarray(array, np.float64)
    if array.ndim < 1:
        raise ValueError(f"a single number {array} came; expected an array (examples, ...)")
    columns = centred(array.reshape(len(array), -1))
    return columns @ columns.T


def _alignment(one: np.ndarray, other: np.ndarray) -> float:
    lengths = np.linalg.norm(one) * np.linalg.norm(other)
    return float((one * other).sum() / lengths) if lengths > 0 else float("nan")
