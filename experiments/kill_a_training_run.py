"""A training run is killed a hundred times, goes on each time, and ends as one that was left alone.

Claim: `kill -9` at any moment of a training run that saves in the background leaves a run that goes on: never from a
step older than the save before the one under way, and to the same bits. One run of a small net is started again and
again by one command, killed at 100 random moments after its first save, then left to finish; the SHA-256 of its last
state is that of a run that was never killed.

    python experiments/kill_a_training_run.py                 # writes results/kill_a_training_run.json
    python experiments/kill_a_training_run.py --kills 25 --steps 4000     # prints, and writes nothing

Expected: all 100 survived, at most 40 steps behind the log (a save every 20, and one under way), and the same end;
5 minutes on two cores.
"""

import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

RESULTS = Path(__file__).parent / "results" / "kill_a_training_run.json"

# Steps between two saves.
INTERVAL = 20


@dataclass(frozen=True)
class Options:
    """How often the run is killed.

    Attributes:
        kills: how many times; 100 for a result that is kept.
        longest: the longest time, in seconds, that the run is left alone between its first save and a kill.
        steps: steps of the whole run.
        seed: decides the moments.
    """

    kills: int = 100
    longest: float = 0.6
    steps: int = 12_000
    seed: int = 0


def train(folder: Path, steps: int) -> str:
    """The run: begins, or goes on, in a folder; returns the SHA-256 of its last state."""
    import jax
    import numpy as np
    from rich.console import Console

    from cnnjax import models
    from cnnjax.data import ArraySource, augment
    from cnnjax.tasks import Classification
    from cnnjax.train import Experiment, Saving, fit

    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 256, (512, 12, 12, 1), np.uint8)
    source = ArraySource({"image": pictures, "label": (pictures.mean((1, 2, 3)) > 128).astype(np.int32)})
    experiment = Experiment(
        steps=steps, batch_size=16, run_dir=folder, restartable=True, saving=Saving(every=INTERVAL), log_every=INTERVAL
    )
    result = fit(
        models.ConvNet(num_classes=2, features=(8,), hidden=(16,), dropout=0.2),
        Classification(("dark", "bright")),
        source,
        source,
        experiment,
        prepare=lambda batch: augment.standardize(batch, mean=(0.5,), deviation=(0.3,)),
        console=Console(file=io.StringIO()),
    )
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(result.state):
        array = jax.random.key_data(leaf) if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        digest.update(np.asarray(array).tobytes())
    return digest.hexdigest()


def start(folder: Path, steps: int) -> subprocess.Popen[str]:
    """The run in a process of its own."""
    command = [sys.executable, __file__, "--run", str(folder), str(steps)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def newest(folder: Path) -> int:
    """The newest step with a manifest, as the file system has it."""
    found = (int(path.parent.name) for path in folder.glob("checkpoints/*/manifest.json") if path.parent.name.isdigit())
    return max(found, default=0)


def last_row(folder: Path) -> int:
    """The step of the last whole row of the log, 0 without; it is written just before its step is saved."""
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith("\n")), default=0)


def kill_once(folder: Path, steps: int, wait: float) -> dict[str, Any] | None:
    """Starts the run, lets it save, and kills it after some more seconds; None if it came to its end.

    Tells the newest complete step before and after, and the last row of the log.
    """
    before = newest(folder)
    process = start(folder, steps)
    while process.poll() is None and newest(folder) <= before:
        time.sleep(0.01)
    if process.poll() is None:
        time.sleep(wait)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if process.returncode != -signal.SIGKILL:
        if process.returncode:
            raise RuntimeError(f"the run did not go on after step {before}: exit code {process.returncode}")
        return None
    return {"before": before, "after": newest(folder), "logged": last_row(folder)}


def main(options: Options) -> None:
    """Kills and restarts, compares the ends, and writes the result if it is whole."""
    from cnnjax.report.results import write_results

    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as work:
        folder, kills = Path(work) / "killed", []
        while len(kills) < options.kills:
            told = kill_once(folder, options.steps, moments.uniform(0, options.longest))
            if told is None:
                raise SystemExit(f"the run of {options.steps} steps ended after {len(kills)} kills; pass more --steps")
            if told["after"] <= told["before"]:
                raise RuntimeError(f"the run did not go on: {told}")
            kills.append(told)
            print(f"kill {len(kills)} of {options.kills}: saved up to step {told['after']:,}", flush=True)
        ends = []
        for each in (folder, Path(work) / "alone"):
            process = start(each, options.steps)
            ends.append(process.communicate()[0].strip())
            if process.returncode:
                raise RuntimeError(f"the run in {each.name} ended with exit code {process.returncode}")
    lost = max(told["logged"] - told["after"] for told in kills)
    measured = {
        "kills": options.kills,
        "steps": options.steps,
        "steps_between_saves": INTERVAL,
        "killed_at_step": [told["after"] for told in kills],
        "most_steps_between_the_last_row_and_the_newest_save": lost,
        "sha256_of_the_killed_run": ends[0],
        "sha256_of_a_run_left_alone": ends[1],
        "equal": ends[0] == ends[1],
    }
    same = "the same end" if measured["equal"] else "ANOTHER END"
    print(f"{options.kills} kills; at most {lost} steps from the log to the newest save; {same}")
    if not measured["equal"] or lost > 2 * INTERVAL:
        raise SystemExit("the killed run is not what it should be")
    if options.kills >= Options.kills:
        write_results(RESULTS, measured)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        os.environ.setdefault("JAX_NUM_CPU_DEVICES", "1")
        print(train(Path(sys.argv[2]), int(sys.argv[3])))
    else:
        main(tyro.cli(Options, description=(__doc__ or "").split("\n\n")[0]))
