"""Orbax, as checkpoints use it: what fails in its threads is raised where it is waited for, and printed by none."""

import logging
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

# Characters of the cause of an error that are told.
_LONGEST_CAUSE = 300

_hooking = threading.Lock()


def new_writer() -> ocp.AsyncCheckpointer:
    """What writes arrays in the background.

    It creates folders at once: a thread that waits for one that cannot be created would keep the process for minutes.
    """
    _keep_quiet()
    options = ocp.options.AsyncOptions(create_directories_asynchronously=False)
    return ocp.AsyncCheckpointer(ocp.StandardCheckpointHandler(), async_options=options)


def read_like(folder: Path, like: Any) -> Any:
    """A whole tree of arrays, of the types, shapes and shardings of `like`."""
    _keep_quiet()
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
        return reader.restore(
            folder, args=ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, like))
        )


def read_part(folder: Path, part: Mapping[str, Any]) -> Any:
    """A part of a tree of dictionaries on the default device, whatever devices it was written by.

    The leaves of `part` are `jax.ShapeDtypeStruct`s.
    """
    _keep_quiet()
    how = jax.tree.map(lambda leaf: ocp.RestoreArgs(restore_type=np.ndarray), part)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        arrays = reader.restore(folder, args=ocp.args.PyTreeRestore(part, restore_args=how, partial_restore=True))
    return jax.tree.map(jnp.asarray, arrays)


def cause(error: BaseException) -> str:
    """The first line of an error, without the specification that TensorStore adds; of a long one the end, the cause."""
    first = next(iter(str(error).splitlines()), "") or type(error).__name__
    said = first.partition(" [os_error_code=")[0].partition(" [tensorstore_spec=")[0]
    return said if len(said) <= _LONGEST_CAUSE else f"... {said[-_LONGEST_CAUSE:]}"


class _RaisedAnyway(logging.Filter):
    """Leaves out errors of Orbax that are raised as well: those it logs, and those of the other parts of one write.

    A write has several tasks. Where two of them fail, the first failure is raised; asyncio logs the other one when the
    task is collected, if that comes before the process ends.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.exc_info:
            return True
        if record.name == "asyncio":
            files = (Path(frame.f_code.co_filename) for frame, _ in traceback.walk_tb(record.exc_info[2]))
            of_orbax = any("orbax" in file.parts for file in files)
            return not (of_orbax or "[tensorstore_spec=" in str(record.exc_info[1]))
        return "orbax" not in Path(record.pathname).parts


def _keep_quiet() -> None:
    """Drops what Orbax and TensorStore print of an error beside raising it; nothing else is dropped."""
    with _hooking:
        if any(isinstance(one, _RaisedAnyway) for one in logging.getLogger("absl").filters):
            return
        for name in ("absl", "asyncio"):
            logging.getLogger(name).addFilter(_RaisedAnyway())
        earlier = sys.unraisablehook

        def hook(told: Any) -> None:
            if not _of_a_closed_loop(told.exc_value, told.exc_traceback):
                earlier(told)

        sys.unraisablehook = hook


def _of_a_closed_loop(error: BaseException | None, trace: TracebackType | None) -> bool:
    """Whether a thread of TensorStore called into the event loop of a write that had failed already."""
    names = []
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    return isinstance(error, RuntimeError) and names == ["call_soon_threadsafe", "_check_closed"]
