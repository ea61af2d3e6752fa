"""Training runs are killed in every way, go on each time, and end as runs that were left alone.

Claim: whatever ends a run, the same command goes on: never from a step older than the save before the one under way,
to the same bits, with the same rows in its log, and nothing of it stays behind. Eight kinds of runs are ended again and
again, then left to finish, and compared with a run that nobody touched:

    training       `kill -9` at a random moment after a save, of a run on data that lives on the device
    workers        the same, of a run whose data two processes read
    two processes  the same, of two processes that train together: of both, and each tenth time of one alone
    testing        the same, while the test set is gone through
    page           the same, while the page is written
    pipe closed    nobody reads its output any more, as behind `| head`: it saves, and leaves with exit code 141
    pipe full      its reader stands still, and SIGTERM comes: it saves, and leaves with exit code 143
    two starts     the command is given twice at once: one works, the other leaves with exit code 2; then `kill -9`

    python experiments/kill_a_training_run.py            # writes results/kill_a_training_run.json; 38 minutes
    python experiments/kill_a_training_run.py --kills 2 --only workers page      # prints, and writes nothing

Expected: all 104 survived (13 of each kind), at most 32 steps behind the log (a save every 20, and one under way), no
process and no shared memory left, equal states and equal rows; 38 minutes on two cores, with other work beside it.
"""

import fcntl
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import tyro

RESULTS = Path(__file__).parent / "results" / "kill_a_training_run.json"

# Steps between two saves, and between two rows of the log: no multiple, so that saves fall between rows.
INTERVAL, ROW = 20, 7

# Seconds after which a run is taken to hang, and within which its children must have gone.
_HANGS, _CHILDREN_GO = 240.0, 30.0

# What differs between two runs in the rows of their logs.
_TIMES = ("seconds_per_step", "examples_per_second", "waiting_for_input", "utilisation")


@dataclass(frozen=True)
class Kind:
    """A kind of run, and how it is ended.

    Attributes:
        workers: processes that read its data, which lives on the device where there are none.
        processes: that train together.
        tests: examples of the test set.
        page: whether it writes a page; such a run has one interval.
        moment: what it is waited for: "saved", or what the run says of itself, "testing" or "page".
        longest: the longest time, in seconds, from that moment to the end.
    """

    workers: int = 0
    processes: int = 1
    tests: int = 64
    page: bool = False
    moment: str = "saved"
    longest: float = 0.5


KINDS = {
    "training": Kind(),
    "workers": Kind(workers=2),
    "two processes": Kind(processes=2),
    "testing": Kind(tests=4096, moment="testing", longest=0.3),
    "page": Kind(page=True, moment="page", longest=2.0),
    "pipe closed": Kind(),
    "pipe full": Kind(),
    "two starts": Kind(),
}


@dataclass(frozen=True)
class Options:
    """How often runs are ended.

    Attributes:
        kills: how many times, of each kind; 13 for a result that is kept.
        only: the kinds; all where none is named.
        steps: steps of a run for each time that it is ended.
        seed: decides the moments.
    """

    kills: int = 13
    only: tuple[str, ...] = ()
    steps: int = 80
    seed: int = 0


def train(folder: Path, kind: Kind, steps: int, process: int, coordinator: str) -> str:
    """The run: begins, or goes on, in a folder; returns the SHA-256 of its last state."""
    import jax
    import numpy as np
    from rich.console import Console

    import cnnjax.experiment.running as running
    from cnnjax import Devices, Experiment, Folder, Loading, Net, Saving, Training, models
    from cnnjax.data import ArraySource, Info, augment
    from cnnjax.tasks import Classification
    from cnnjax.train import fit
    from cnnjax.train.evaluation import Evaluator
    from cnnjax.train.hosts import connect

    def told(moment: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """A call whose beginning and end stand in a file beside the folder."""
        with events(folder).open("a", encoding="utf-8", buffering=1) as file:
            file.write(f"{moment}\n")
            result = call(*arguments, **options)
            file.write(f"{moment} ended\n")
        return result

    plain = Evaluator.__call__
    Evaluator.__call__ = lambda *arguments, **options: told("testing", plain, *arguments, **options)
    running.write_run = partial(told, "page", running.write_run)
    generator = np.random.default_rng(0)

    def source(split: str, count: int) -> ArraySource:
        images = generator.integers(0, 256, (count, 12, 12, 1), np.uint8)
        labels = (images.mean((1, 2, 3)) > 128).astype(np.int32)
        return ArraySource({"image": images, "label": labels}, Info("noise", split, {}, ("dark", "bright")))

    sources = source("train", 512), source("test", kind.tests)
    training = Training(
        steps=INTERVAL if kind.page else steps,
        batch_size=16,
        saving=Saving(every=INTERVAL),
        log_every=ROW,
        loading=Loading(workers=kind.workers, resident_mib=0 if kind.workers else 512),
        folder=Folder(run_dir=folder, restartable=True),
    )
    if kind.processes > 1:
        connect(Devices(coordinator=coordinator, num_processes=kind.processes, process_id=process))
    if kind.page:
        result = running.run_on(*sources, Experiment(net=Net("convnet"), training=training)).training
    else:
        result = fit(
            models.ConvNet(num_classes=2, features=(8,), hidden=(16,), dropout=0.2),
            Classification(("dark", "bright")),
            *sources,
            training,
            prepare=lambda batch: augment.standardize(batch, mean=(0.5,), deviation=(0.3,)),
            console=Console(width=200),
        )
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(result.state):
        array = jax.random.key_data(leaf) if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        digest.update(np.asarray(array).tobytes())
    return digest.hexdigest()


def events(folder: Path) -> Path:
    """The file in which a run says what it does."""
    return folder.with_name(f"{folder.name}.events")


class Started:
    """A run in processes of its own, whose output goes nowhere, or into a pipe that is read, or not."""

    def __init__(self, folder: Path, kind: str, steps: int, *, pipe: bool = False):
        """Starts it; its errors are kept."""
        with socket.socket() as free:
            free.bind(("localhost", 0))
            coordinator = f"localhost:{free.getsockname()[1]}"
        self.errors = [tempfile.TemporaryFile("w+") for _ in range(KINDS[kind].processes)]  # noqa: SIM115, read later
        command = [sys.executable, __file__, "--run", str(folder), kind, str(steps)]
        output = subprocess.PIPE if pipe else subprocess.DEVNULL
        self.processes = [
            subprocess.Popen([*command, str(number), coordinator], stdout=output, stderr=errors, text=True)
            for number, errors in enumerate(self.errors)
        ]

    @property
    def first(self) -> subprocess.Popen[str]:
        """The process that writes."""
        return self.processes[0]

    @property
    def output(self) -> IO[str]:
        """The reading end of its pipe."""
        return cast(IO[str], self.first.stdout)

    def wait(self) -> list[int | str]:
        """The exit codes; a process that hangs is killed, and has the code "hangs"."""
        codes: list[int | str] = []
        for process in self.processes:
            try:
                codes.append(process.wait(timeout=_HANGS))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                codes.append("hangs")
        return codes

    def said(self) -> str:
        """The end of what the processes said on their error streams."""
        for file in self.errors:
            file.seek(0)
        return "\n".join(file.read()[-1500:] for file in self.errors)

    def kill(self, number: int) -> None:
        """All at once; each tenth time only one, and the others follow."""
        alone = len(self.processes) > 1 and number % 10 == 9
        for process in self.processes[number // 10 % 2 :][:1] if alone else self.processes:
            process.kill()


def newest(folder: Path) -> int:
    """The newest step with a manifest, as the file system has it."""
    found = (int(path.parent.name) for path in folder.glob("checkpoints/*/manifest.json") if path.parent.name.isdigit())
    return max(found, default=0)


def rows(folder: Path) -> list[dict[str, Any]]:
    """The whole rows of the log, without what takes other times in another run."""
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    parsed = [json.loads(line) for line in lines if line.endswith("\n")]
    return [{name: value for name, value in row.items() if name not in _TIMES} for row in parsed]


def descendants(process: int) -> set[int]:
    """All processes below one."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # Behind the name, which may hold spaces and brackets: state and parent.
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:  # ended meanwhile
            continue
    found, before = {process}, 0
    while len(found) > before:
        before = len(found)
        found |= {child for child, parent in parents.items() if parent in found}
    return found - {process}


def segments() -> set[str]:
    """Pieces of shared memory of Python's processes that no living one uses."""
    found = {path.name for path in Path("/dev/shm").glob("psm_*")}
    for path in Path("/proc").glob("[0-9]*/maps") if found else ():
        try:
            used = path.read_text(encoding="utf-8", errors="replace")
        except OSError:  # ended meanwhile, or another user's
            continue
        found -= {name for name in found if name in used}
    return found


def left_behind(children: set[int], before: set[str]) -> dict[str, int]:
    """How many processes and pieces of shared memory stay, after some time for them to go."""
    end = time.monotonic() + _CHILDREN_GO
    while True:
        alive = {child for child in children if Path(f"/proc/{child}").exists()}
        pieces = segments() - before
        if not (alive or pieces) or time.monotonic() > end:
            return {"processes": len(alive), "segments": len(pieces)}
        time.sleep(0.1)


def until(started: Started, reached: Callable[[], bool]) -> bool:
    """Whether a run came so far before it ended."""
    end = time.monotonic() + _HANGS
    while started.first.poll() is None and time.monotonic() < end:
        if reached():
            return True
        time.sleep(0.01)
    return False


def end_once(folder: Path, name: str, steps: int, number: int, wait: float) -> dict[str, Any]:
    """Starts a run, ends it in the way of its kind, and tells what came of it; `wrong` lists what should not be.

    Raises:
        RuntimeError: the run did not come to the moment at which it was to be ended.
    """
    kind, before, shared = KINDS[name], newest(folder), segments()
    heard = events(folder).stat().st_size if events(folder).exists() else 0
    piped = name in ("pipe closed", "pipe full")
    started = Started(folder, name, steps, pipe=piped)
    second = Started(folder, name, steps) if name == "two starts" else None
    wrong = []

    def reached() -> bool:
        if kind.moment == "saved":
            return newest(folder) > before
        said = events(folder).read_text(encoding="utf-8")[heard:] if events(folder).exists() else ""
        # Not always in the first test, beyond which such a run would never come.
        return said.splitlines().count(kind.moment) > (number % 3 if kind.moment == "testing" else 0)

    if name == "pipe full":
        fcntl.fcntl(started.output, fcntl.F_SETPIPE_SZ, 4096)
    if second is not None:
        # Whichever comes first works.
        until(started, lambda: second.first.poll() is not None)
        if started.first.poll() is not None:
            started, second = second, started
        refusals = ("is in use by process", "is not empty")  # the second where the other had just begun
        if second.wait() != [2] or not any(words in second.said() for words in refusals):
            wrong.append(f"the second start left with {second.first.returncode}: {second.said()}")
    if not until(started, reached):
        raise RuntimeError(f"{name}: the run did not go on after step {before}: {started.wait()} {started.said()}")
    time.sleep(wait)
    children = set().union(*(descendants(process.pid) for process in started.processes))
    if name == "pipe closed":
        started.output.close()
        expected = 141
    elif name == "pipe full":
        started.first.send_signal(signal.SIGTERM)
        expected = 128 + signal.SIGTERM
    else:
        started.kill(number)
        expected = -signal.SIGKILL
    codes = started.wait()
    if expected not in codes or "hangs" in codes:
        wrong.append(f"it left with {codes}, and not {expected}: {started.said()}")
    if piped:
        started.output.close()
    after, logged = newest(folder), max((row["step"] for row in rows(folder)), default=0)
    if after < before or (kind.moment == "saved" and after == before):
        wrong.append(f"step {before} was saved before, and step {after} after")
    left = left_behind(children, shared)
    wrong += [f"{count} {what} stayed" for what, count in left.items() if count]
    last = events(folder).read_text(encoding="utf-8").splitlines()[-1:] if events(folder).exists() else []
    return {"after": after, "lost": max(0, logged - after), "codes": codes, "during": last, "wrong": wrong, **left}


def end_many(name: str, work: Path, options: Options) -> dict[str, Any]:
    """Ends a run of a kind again and again, lets it finish, and compares it with one that was left alone."""
    kind, moments = KINDS[name], random.Random(f"{options.seed} {name}")
    stem, steps = name.replace(" ", "-"), options.steps * (options.kills + 1)
    folder, ended = work / stem, []
    for number in range(options.kills):
        ended.append(end_once(folder, name, steps, number, moments.uniform(0, kind.longest)))
        print(f"{name}: {number + 1} of {options.kills}, saved up to step {ended[-1]['after']:,}", flush=True)
        for line in ended[-1]["wrong"]:
            print(f"    WRONG: {line}", flush=True)
    ends = []
    for each in (folder, work / f"{stem}-alone"):
        started = Started(each, name, steps, pipe=True)
        ends.append(started.output.read().splitlines()[-1:])
        if any(started.wait()):
            raise RuntimeError(f"the run in {each.name} ended with {started.wait()}: {started.said()}")
    unfinished = [path.name for path in (folder / "checkpoints").glob("unfinished-*")]
    page = folder / "report.html"
    return {
        "ended": len(ended),
        "survived": sum(not one["wrong"] for one in ended),
        "exit_codes": dict(Counter(str(one["codes"]) for one in ended)),
        "during": dict(Counter(line for one in ended for line in one["during"])),
        "ended_at_step": [one["after"] for one in ended],
        "most_steps_from_the_newest_save_to_the_last_row": max(one["lost"] for one in ended),
        "processes_left": sum(one["processes"] for one in ended),
        "segments_left": sum(one["segments"] for one in ended),
        "unfinished_checkpoints_left": len(unfinished),
        "page_is_whole": page.read_text(encoding="utf-8").rstrip().endswith("</html>") if kind.page else None,
        "sha256": ends[0],
        "equal_state": ends[0] == ends[1],
        "equal_rows": rows(folder) == rows(work / f"{stem}-alone"),
    }


def is_whole(told: dict[str, Any]) -> bool:
    """Whether all of a kind survived."""
    return (
        told["survived"] == told["ended"]
        and told["equal_state"]
        and told["equal_rows"]
        and told["page_is_whole"] is not False
        and not told["unfinished_checkpoints_left"]
        and told["most_steps_from_the_newest_save_to_the_last_row"] <= 2 * INTERVAL
    )


def main(options: Options) -> None:
    """Ends runs of every kind, and writes what came of it if all is well."""
    from cnnjax.report.results import write_results

    if unknown := set(options.only) - KINDS.keys():
        raise SystemExit(f"--only {unknown.pop()!r} is unknown; there are {', '.join(KINDS)}")
    began, found = time.perf_counter(), {}
    with tempfile.TemporaryDirectory() as work:
        for name in options.only or KINDS:
            found[name] = end_many(name, Path(work), options)
            print(f"{name}: {json.dumps(found[name])}", flush=True)
    wrong = [name for name, told in found.items() if not is_whole(told)]
    minutes = round((time.perf_counter() - began) / 60, 1)
    survived, ended = (sum(told[what] for told in found.values()) for what in ("survived", "ended"))
    print(f"{survived} of {ended} survived in {minutes} minutes; not as they should be: {', '.join(wrong) or 'none'}")
    if options.kills >= Options.kills and not options.only:
        measured = {"ended": ended, "survived": survived, "minutes": minutes, "steps_between_saves": INTERVAL}
        write_results(RESULTS, {**measured, "kinds": found})
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        from cnnjax.cli import one_line_errors

        os.environ.setdefault("JAX_NUM_CPU_DEVICES", "1")
        run_dir, kind, steps, process, coordinator = sys.argv[2:]
        with one_line_errors():
            print(train(Path(run_dir), KINDS[kind], int(steps), int(process), coordinator))
    else:
        main(tyro.cli(Options, description=(__doc__ or "").split("\n\n")[0]))
