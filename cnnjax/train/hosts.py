"""Several processes that train together: found from the environment, and what they tell each other.

Every process runs the same command. JAX connects them, and from then on each sees the devices of all.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from cnnjax.settings import Devices
from cnnjax.train.peers import Peers, meet

# Environment variables by which a launcher says how many processes it started. JAX reads the rest by itself.
_COUNTS = {"SLURM": "SLURM_NTASKS", "Open MPI": "OMPI_COMM_WORLD_SIZE"}

# Of this process, where it was told of the others; a launcher has its own ways of ending what it started.
_peers: Peers | None = None

# The longest message, such as the path of a folder.
_LONGEST = 4096


def connect(devices: Devices, *, environment: Mapping[str, str] = os.environ) -> str | None:
    """Connects the processes that train together, if there are several; says how they were found, or None for one.

    They are told by --devices.coordinator, --devices.num-processes and --devices.process-id; or by
    JAX_COORDINATOR_ADDRESS and JAX_NUM_PROCESSES in the environment, beside JAX_PROCESS_ID or the
    JOB_COMPLETION_INDEX of a pod of an indexed
    Kubernetes job; or found by what SLURM, Open MPI or a Cloud TPU say. It must come before JAX's first use of a
    device, and does nothing where the processes are connected already.

    Where the settings or JAX's variables tell of the others, a line says every ten seconds for whom this one waits, and
    when one of them ends before its time, the rest end too; see `peers`.

    Raises:
        ValueError: some of the three settings are given and not all, or they do not fit together.
        TimeoutError: a process did not come.
        RuntimeError: a device was used before.
    """
    global _peers
    if jax.distributed.is_initialized():
        if _peers is not None:
            _peers.working = True
        return None
    told: dict[str, Any] = {
        "--devices.coordinator": devices.coordinator,
        "--devices.num-processes": devices.num_processes,
        "--devices.process-id": devices.process_id,
    }
    how = "--devices.coordinator"
    if set(told.values()) == {None} and "JAX_COORDINATOR_ADDRESS" in environment:
        told, how = _from_environment(environment), "JAX_COORDINATOR_ADDRESS"
    if set(told.values()) != {None}:
        coordinator, count, number = told.values()
        if missing := [name for name, value in told.items() if value is None]:
            raise ValueError(f"several processes need all of {', '.join(told)}; {missing[0]} is missing")
        if not 0 <= number < count:
            raise ValueError(f"process_id={number} of num_processes={count}; expected 0 to {count - 1}")
        if count == 1:
            return None
        links = meet(coordinator, count, number, bind=environment.get("JAX_COORDINATOR_BIND_ADDRESS"))
        jax.distributed.initialize(coordinator, count, number)
        _peers = Peers(links, count, number)
        return how
    for name, variable in _COUNTS.items():
        if int(environment.get(variable, "1")) > 1:
            jax.distributed.initialize()
            return name
    # A slice of TPUs over several hosts.
    if "," in environment.get("TPU_WORKER_HOSTNAMES", ""):
        jax.distributed.initialize()
        return "Cloud TPU"
    return None


def release() -> None:
    """Lets the other processes end: nothing of what is left to do needs them."""
    if _peers is not None:
        _peers.working = False


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """What JAX's variables, and the index of a Kubernetes job's pod, say."""
    number = "JAX_PROCESS_ID" if "JAX_PROCESS_ID" in environment else "JOB_COMPLETION_INDEX"
    count = environment.get("JAX_NUM_PROCESSES")
    return {
        "JAX_COORDINATOR_ADDRESS": environment["JAX_COORDINATOR_ADDRESS"],
        "JAX_NUM_PROCESSES": None if count is None else int(count),
        number: int(environment[number]) if number in environment else None,
    }


def from_first_process(text: str) -> str:
    """Broadcasts the string of process 0 to all processes.

    Raises:
        ValueError: the text is longer than 4,096 bytes.
    """
    if jax.process_count() == 1:
        return text
    encoded = text.encode()
    if len(encoded) > _LONGEST:
        raise ValueError(f"a text of {len(encoded)} bytes came; expected at most {_LONGEST}")
    padded = np.zeros(_LONGEST, np.uint8)
    padded[: len(encoded)] = np.frombuffer(encoded, np.uint8)
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(padded))).rstrip(b"\0").decode()


def on_first_process(call: Callable[[], str | None]) -> str:
    """The text that a call returns which only the first process makes, in all of them; where it fails, it fails in all.

    Raises:
        ValueError: in the other processes, that it failed; in the first one, whatever the call raises.
    """
    told, failure = "", None
    if jax.process_index() == 0:
        try:
            told = f"done {call() or ''}"
        except Exception as error:
            failure = error
    told = from_first_process(told)
    if failure is not None:
        raise failure
    if not told:
        raise ValueError("the first process failed; see what it says")
    return told.removeprefix("done ")


def from_all_processes(tree: Any) -> Any:
    """Arrays with an entry per example, of this process's part of a batch or on the mesh, as NumPy's of the whole."""
    return jax.device_get(tree) if jax.process_count() == 1 else multihost_utils.process_allgather(tree, tiled=True)
