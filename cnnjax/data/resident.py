"""Small data sets live on the device: read once, gathered by number inside the step."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import track

from cnnjax.data.loading import Loader
from cnnjax.data.pipeline import eval_batches
from cnnjax.data.sources import Source

# Examples read between two movements of the progress bar.
_BLOCK = 512


def read_all(
    source: Source, *, limit: int, console: Console | None = None, **options: Any
) -> dict[str, np.ndarray] | None:
    """All examples of a source in one array per element, or None where they would take more than `limit` bytes.

    "valid" among them is False for examples that were skipped. The size is that of the first example times their
    number. `options` are those of `eval_batches`, whose errors are raised too.
    """
    loading = {name: options[name] for name in ("image_size", "fit", "unreadable") if name in options}
    first = Loader(source, **loading).load(0, 0).example
    if first is None or len(source) * sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(first)) > limit:
        return None
    batches = eval_batches(source, batch_size=min(_BLOCK, len(source)), **options)
    console = console or Console(stderr=True)
    shown = track(
        batches,
        f"reading {len(source):,} examples of {source.info.name} ({source.info.split})",
        total=-(-len(source) // _BLOCK),
        console=console,
        transient=True,
        disable=not console.is_terminal,  # elsewhere a bar that goes away leaves an empty line
    )
    parts = [{name: leaf for name, leaf in batch.items() if name != "id"} for batch in shown]
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
