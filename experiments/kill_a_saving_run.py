"""Whether a run that is killed at any moment can go on from its checkpoints.

Claim: `kill -9` at 100 random moments of a process that does nothing but train, save and delete old checkpoints leaves
a folder that can be resumed from, each time: no checkpoint that was reported complete is lost or damaged, the one that
is restored is bit by bit the state of its step, and at most one interval of training is lost.

    python experiments/kill_a_saving_run.py        # writes results/kill_a_saving_run.json; about four minutes
    python experiments/kill_a_saving_run.py --kills 5              # prints, and writes nothing

Expected: 100 of 100 resumed, 0 damaged, at most 1 interval lost.

Every run goes on in the folder that the last one was killed in. Its state has 1.3 MB, and an interval is one step. It
is killed between 0 and 1.2 s after it begins to restore: while it restores, while arrays are written, between them and
the manifest, or while an older checkpoint is deleted. Where each kill struck is counted from what it left.
"""

import argparse
import dataclasses
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnjax.report.results import write_results
from cnnjax.train.checkpoint import Checkpoints
from cnnjax.train.manifest import NAME
from cnnjax.train.state import Guard, TrainState

KILLS = 100
LONGEST = 1.2
SEED = 0
RESULTS = Path(__file__).parent / "results" / "kill_a_saving_run.json"

# Their values stay whole numbers below 2**24, so that float32 counts steps exactly.
SHAPE = (400, 400)


def first_state() -> TrainState:
    """Before the first step: a kernel, its moments, and arrays of other types."""
    params = {"kernel": jnp.arange(400.0 * 400).reshape(SHAPE), "mask": jnp.ones(64, jnp.bfloat16)}
    guard = Guard(jnp.int32(0), jnp.int32(0), jnp.float32(1), jnp.int32(0))
    return TrainState(
        step=jnp.int32(0),
        params=params,
        model_state={},
        opt_state=optax.trace(0.9).init(params),
        key=jax.random.key(7),
        guard=guard,
        averages={},
    )


def is_state_of(step: int, state: TrainState) -> bool:
    """Whether a state holds what the steps up to this one made of the first, by NumPy."""
    expected = {
        "step": np.int32(step),
        "kernel": np.arange(400 * 400, dtype=np.float32).reshape(SHAPE) + np.float32(step),
        "moment": np.full(SHAPE, step, np.float32),
        "mask": np.ones(64, jnp.bfloat16),
        "key": np.asarray([0, 7], np.uint32),
        "good_steps": np.int32(step),
    }
    found = {
        "step": state.step,
        "kernel": state.params["kernel"],
        "moment": state.opt_state.trace["kernel"],
        "mask": state.params["mask"],
        "key": jax.random.key_data(state.key),
        "good_steps": state.guard.good_steps,
    }
    arrays = {name: np.asarray(array) for name, array in found.items()}
    return all(
        arrays[name].dtype == array.dtype and np.array_equal(arrays[name], array) for name, array in expected.items()
    )


def train_and_save(folder: Path) -> None:
    """Resumes and trains for ever, saving after every step; says when it begins, and what step a save has begun of.

    The state is donated, as in training: a checkpoint must not see what is later written into its memory.
    """

    def step(state: TrainState) -> TrainState:
        trace = state.opt_state.trace
        return dataclasses.replace(
            state,
            step=state.step + 1,
            params=state.params | {"kernel": state.params["kernel"] + 1},
            opt_state=state.opt_state._replace(trace=trace | {"kernel": trace["kernel"] + 1}),
            guard=state.guard._replace(good_steps=state.guard.good_steps + 1),
        )

    state = first_state()
    call = jax.jit(step, donate_argnums=0).lower(state).compile()
    print("begins", flush=True)
    with Checkpoints(folder) as checkpoints:
        if checkpoints.latest is not None:
            state = checkpoints.restore(state)
        number = int(state.step)
        print(number, flush=True)
        while True:
            state, number = call(state), number + 1
            checkpoints.save(state, number, record={"place": number})
            checkpoints.check()
            print(number, flush=True)


def kill_once(folder: Path, seconds: float) -> dict[str, Any]:
    """Starts a run, kills it so many seconds after it begins, and tells what it said and what it left.

    Raises:
        RuntimeError: the run ended by itself.
    """
    found = folders(folder)
    command = [sys.executable, __file__, "--save", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        lines, errors = cast(IO[str], process.stdout), cast(IO[str], process.stderr)
        if lines.readline().strip() != "begins":
            raise RuntimeError(f"the saving run did not begin: {errors.read()[-2000:]}")
        time.sleep(seconds)
        if process.poll() is not None:
            raise RuntimeError(f"the saving run ended by itself: {errors.read()[-2000:]}")
        process.kill()
        told = [int(line) for line in lines.read().split("\n")[:-1]]
    if not told:
        return {"resumed_at": None, "told": None, "struck": "while it restored"}
    return {"resumed_at": told[0], "told": told[-1], "struck": where(folder, before=found)}


def folders(folder: Path) -> set[tuple[str, int]]:
    """The folders of a folder: names and inodes, by which one that was replaced is told from one that was left."""
    return {(path.name, path.stat().st_ino) for path in folder.glob("*") if path.is_dir()}


def where(folder: Path, *, before: set[tuple[str, int]]) -> str:
    """What a run that had restored was doing when it was killed, from what it left; `before` is what it found."""
    new = [folder / name for name, _ in folders(folder) - before]
    unfinished = [path for path in new if path.name.isdigit() and not (path / NAME).is_file()]
    if any((path / "state").is_dir() for path in unfinished):
        return "between arrays and manifest"
    if unfinished:
        return "while arrays were written"
    return "while an old step was deleted" if any("deleted" in path.name for path in new) else "between saves"


def check_folder(folder: Path, *, told: int | None, before: int) -> dict[str, Any]:
    """Restores what a killed run left, and says which step, how many intervals were lost, and all that is wrong.

    `told` is the step whose save was the last that the run said to have begun, so that the one before was complete;
    `before` is the step that was complete when the run started, 0 where none was.
    """
    said: list[str] = []
    with Checkpoints(folder, report=said.append) as checkpoints:
        complete = checkpoints.latest
        state = first_state() if complete is None else checkpoints.restore(first_state())
        restored = int(state.step)
        record = {"place": restored} if complete is None else checkpoints.record(restored)
    reached = before if told is None else told
    wrong = [line for line in said if "damaged" in line]
    if restored != (complete or 0):
        wrong.append(f"step {restored} was restored, and step {complete} is the newest complete one")
    if not is_state_of(restored, state) or record != {"place": restored}:
        wrong.append(f"what was restored is not the state of step {restored}")
    # Ahead by one where the run was killed before it could say so.
    if not max(before, reached - 1) <= restored <= reached + 1:
        wrong.append(f"step {restored} was restored; step {before} was complete before, and step {reached} was reached")
    return {"restored": restored, "lost": max(0, reached - restored), "wrong": wrong}


def kill_many(
    folder: Path, kills: int, *, seed: int, longest: float = LONGEST, say: Callable[[str], Any] = print
) -> list[dict[str, Any]]:
    """Kills a run and checks its folder, again and again; what came of each."""
    moments, rows, before = random.Random(seed), [], 0
    for number in range(1, kills + 1):
        seconds = moments.uniform(0, longest)
        row: dict[str, Any] = {"seconds": round(seconds, 4), **kill_once(folder, seconds)}
        row |= check_folder(folder, told=row["told"], before=before)
        if row["resumed_at"] not in (None, before):
            row["wrong"].append(f"the run resumed at step {row['resumed_at']}, and step {before} was complete")
        before = row["restored"]
        rows.append(row)
        say(f"{number:>3} of {kills}: killed {row['struck']}, restored step {before}, lost {row['lost']}")
        for line in row["wrong"]:
            say(f"    WRONG: {line}")
    return rows


def main() -> None:
    """Kills and checks 100 times, and writes what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=KILLS, help="how many times; fewer are not written")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="be the run that is killed")
    options = parser.parse_args()
    if options.save is not None:
        train_and_save(options.save)
    with tempfile.TemporaryDirectory() as folder:
        rows = kill_many(Path(folder) / "checkpoints", options.kills, seed=SEED)
    wrong = [line for row in rows for line in row["wrong"]]
    measured = {
        "kills": len(rows),
        "seed": SEED,
        "resumed": sum(not row["wrong"] for row in rows),
        "steps_saved": rows[-1]["restored"],
        "most_intervals_lost": max(row["lost"] for row in rows),
        "struck": dict(Counter(row["struck"] for row in rows)),
        "wrong": wrong,
    }
    for name, value in measured.items():
        print(f"{name:<20} {value}")
    if options.kills == KILLS:
        write_results(RESULTS, measured)
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
