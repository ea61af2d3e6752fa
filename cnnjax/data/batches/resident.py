"""Small data sets live on the device: read once, gathered by number inside the step."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from rich.console import Console

from cnnjax.data.batches.loader import Loader
from cnnjax.data.batches.pipeline import eval_batches
from cnnjax.data.batches.progress import progress
from cnnjax.data.sources.source import Source

# Examples read between two looks at the progress.
_BLOCK = 64


def read_all(
    source: Source, *, limit: int, console: Console | None = None, **options: Any
) -> dict[str, np.ndarray] | None:
    """All examples of a source in one array per element, or None where they would take more than `limit` bytes.

    "valid" among them is False for examples that were skipped. The size is that of the first readable example times
    their number. `options` are those of `eval_batches`, whose errors are raised too. What takes long is shown.
    """
    loading = {name: options[name] for name in ("read", "unreadable") if name in options}
    first = Loader(source, **loading).model(options.get("most_unreadable", 100)).example
    if len(source) * sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(first)) > limit:
        return None
    parts = []
    text = f"reading examples of {source.info.name} ({source.info.split})"
    with progress(text, len(source), console=console) as advance:
        for batch in eval_batches(source, batch_size=min(_BLOCK, len(source)), **options):
            parts.append({name: leaf for name, leaf in batch.items() if name != "id"})
            advance(min(_BLOCK, len(source) - _BLOCK * (len(parts) - 1)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(source)], *parts)


def gather(examples: Mapping[str, Any] | None, batch: Mapping[str, Any]) -> dict[str, Any]:
    """The batch that `batch["id"]` names among resident examples; the batch itself where there are none.

    Works on NumPy's arrays and, inside a step, on JAX's. Ids must be in range.
    """
    if not examples:
        return dict(batch)
    ids = batch["id"]

    def take(array: Any) -> Any:
        return array[ids] if isinstance(array, np.ndarray) else array.at[ids].get(mode="promise_in_bounds")

    taken = jax.tree.map(take, dict(examples))
    return {**taken, **batch, "valid": batch["valid"] & taken["valid"]}
