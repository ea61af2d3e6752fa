"""Processes that train together: how they are found, and that they do what one does."""

import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from cnnjax.settings import Devices, Optimizer, Saving
from cnnjax.train import hosts, load_variables, read_rows
from cnnjax.train.checkpoint import Checkpoints
from cnnjax.train.hosts import connect, from_all_processes, from_first_process, on_first_process
from tests.train.toy_run import SignalAfter, run, settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def calls(monkeypatch):
    """What JAX is asked to connect, without doing it, nor waiting for others."""
    seen = []
    monkeypatch.setattr(hosts, "meet", lambda *arguments, **named: {})
    monkeypatch.setattr(hosts, "Peers", lambda *arguments: None)
    monkeypatch.setattr(jax.distributed, "initialize", lambda *arguments: seen.append(arguments))
    return seen


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, None),
        ({"SLURM_NTASKS": "1"}, None),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "2"}, "SLURM"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "Open MPI"),
        ({"JOB_COMPLETION_INDEX": "0"}, None),
        ({"TPU_WORKER_HOSTNAMES": "a"}, None),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "Cloud TPU"),
    ],
)
def test_launchers_are_found_by_their_variables(calls, environment, found):
    assert connect(Devices(), environment=environment) == found
    assert calls == ([] if found is None else [()])


def test_variables_of_jax_and_the_index_of_a_pod(calls):
    told = {"JAX_COORDINATOR_ADDRESS": "train-0.train:1234", "JAX_NUM_PROCESSES": "4"}
    assert connect(Devices(), environment=told | {"JOB_COMPLETION_INDEX": "3"}) == "JAX_COORDINATOR_ADDRESS"
    assert connect(Devices(), environment=told | {"JAX_PROCESS_ID": "2", "JOB_COMPLETION_INDEX": "0"})
    assert calls == [("train-0.train:1234", 4, 3), ("train-0.train:1234", 4, 2)]
    with pytest.raises(ValueError, match="JOB_COMPLETION_INDEX is missing"):
        connect(Devices(), environment=told)


def test_explicit_settings_come_first_and_must_be_whole(calls):
    told = {"coordinator": "host:1234", "num_processes": 2, "process_id": 1}
    assert connect(Devices(**told), environment={"SLURM_NTASKS": "4"}) == "--devices.coordinator"
    assert calls == [("host:1234", 2, 1)]
    assert connect(Devices(**told | {"num_processes": 1, "process_id": 0}), environment={}) is None
    with pytest.raises(ValueError, match=r"need all of .*; --devices.process-id is missing"):
        connect(Devices(**told | {"process_id": None}), environment={})
    with pytest.raises(ValueError, match="process_id=2 of num_processes=2; expected 0 to 1"):
        connect(Devices(**told | {"process_id": 2}), environment={})
    assert len(calls) == 1


def test_one_process_tells_itself():
    assert from_first_process("runs/mine") == on_first_process(lambda: "runs/mine") == "runs/mine"
    assert on_first_process(lambda: None) == ""
    with pytest.raises(KeyError, match="mine"):
        on_first_process(lambda: {}["mine"])
    np.testing.assert_array_equal(from_all_processes(jax.numpy.arange(3)), [0, 1, 2])


SCRIPT = """
import io, sys
import jax
import numpy as np
from rich.console import Console
from cnnjax.settings import Devices, Optimizer
from cnnjax.train.hosts import connect
coordinator, process_id, folder, stop_at = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
number = int(sys.argv[5])
connect(Devices(coordinator=coordinator, num_processes=2, process_id=process_id))
import os, signal
from tests.train import toy_run
from cnnjax.train import span
seen = []
def add(self, steps, metrics, plain=span.Span.add):
    seen.append(steps)
    if process_id == 1 and len(seen) == stop_at:
        os.kill(os.getpid(), number)
    plain(self, steps, metrics)
span.Span.add = add
options = {"steps": 5, "log_every": 1, "restartable": True, "devices": Devices()}
options["optimizer"] = Optimizer("momentum", 0.02)
result = toy_run.run(toy_run.settings(folder, **options), console=Console(file=sys.stderr))
leaves = jax.tree.leaves((result.state.params, result.state.model_state, result.state.opt_state))
np.savez(f"{folder}-{process_id}.npz", *map(np.asarray, leaves), ids=result.evaluation.examples["id"])
"""


def two_processes(folder, *, stop_at=0, number=signal.SIGTERM):
    """The same command twice, with two devices each; exit codes and what was said.

    In its call `stop_at`, the second process gets a signal.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2", "PYTHONPATH": str(ROOT)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, coordinator, str(process), str(folder), str(stop_at), str(int(number))],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for process in (0, 1)
    ]
    said = [process.communicate(timeout=300)[0] for process in started]
    return [process.returncode for process in started], said


def test_two_processes_stop_together_one_goes_on_then_two_and_they_end_as_one_would(tmp_path):
    folder, options = tmp_path / "run", {"steps": 5, "log_every": 1, "optimizer": Optimizer("momentum", 0.02)}
    every = Saving(every=1, keep_last=5)
    alone = run(settings(tmp_path / "alone", devices=Devices(count=4), saving=every, **options))
    codes, said = two_processes(folder, stop_at=1)
    assert codes == [128 + signal.SIGTERM] * 2, said
    with Checkpoints(folder / "checkpoints") as checkpoints:
        stopped = checkpoints.latest
    assert stopped is not None
    assert 1 <= stopped < 5
    # What two processes saved is on this one's default device, and is what one process saved.
    found, expected = load_variables(folder), load_variables(tmp_path / "alone", step=stopped)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), found, expected)
    assert {leaf.device for leaf in jax.tree.leaves(found)} == {jax.devices()[0]}
    # One process goes on, on all eight devices, until a signal stops it.
    screen = Console(file=SignalAfter(f"step {stopped + 1}/", signal.SIGTERM), width=200)
    with pytest.raises(SystemExit):
        run(settings(folder, restartable=True, devices=Devices(), **options), console=screen)
    # Of two, one is killed: the other ends too, and says so.
    codes, said = two_processes(folder, stop_at=1, number=signal.SIGKILL)
    assert codes == [2, -signal.SIGKILL], said
    assert "error: process 1 of 2 has gone" in said[0].splitlines()[-1]
    assert "start the same command again" in said[0].splitlines()[-1]
    codes, said = two_processes(folder)
    assert codes == [0, 0], said
    assert "on 4 cpu device(s) of 2 processes by jit" in said[0]
    assert f"resuming at step {stopped + 1}" in said[0]
    assert [row["step"] for row in read_rows(folder)] == list(range(1, 6))
    assert not (folder / "lock").exists()
    expected = jax.tree.leaves((alone.state.params, alone.state.model_state, alone.state.opt_state))
    for number in (0, 1):
        found = np.load(f"{folder}-{number}.npz")
        np.testing.assert_array_equal(found["ids"], alone.evaluation.examples["id"])
        theirs = np.concatenate([found[f"arr_{place}"].ravel() for place in range(len(expected))])
        ours = np.concatenate([np.ravel(leaf) for leaf in expected])
        assert np.linalg.norm(theirs - ours) <= 1e-6 * np.linalg.norm(ours)
