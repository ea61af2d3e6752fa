"""How long a newcomer waits before anything happens.

Claim: `import cnnjax` costs at most 0.3 s over `import jax`, and `cnnjax --help` answers in at most 2 s. Fresh
processes, interleaved; medians of seven rounds after one that is not counted.

    python experiments/benchmarks/startup.py                  # writes results/startup.json

Expected: nothing measurable over `import jax` (1.4 s on two shared cores), and 0.5 s for `cnnjax --help`.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from cnnjax.report.results import write_results

ROUNDS = 7
RESULTS = Path(__file__).parent.parent / "results" / "startup.json"
COMMANDS = {
    "import jax": [sys.executable, "-c", "import jax"],
    "import jax, cnnjax": [sys.executable, "-c", "import jax, cnnjax"],
    "import jax and every room": [
        sys.executable,
        "-c",
        "import jax, cnnjax.analysis, cnnjax.experiment; cnnjax.experiment.run; cnnjax.view.figures; cnnjax.tasks",
    ],
    "cnnjax --help": [str(Path(sys.executable).parent / "cnnjax"), "--help"],
}


def main() -> None:
    """Times every command in turn, round by round, and writes the medians."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(ROUNDS + 1):
        for name, command in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if turn:
                seconds[name].append(time.perf_counter() - began)
        print(f"round {turn} of {ROUNDS}", flush=True)
    medians = {name: round(statistics.median(times), 3) for name, times in seconds.items()}
    over = round(medians["import jax, cnnjax"] - medians["import jax"], 3)
    for name, median in medians.items():
        print(f"{name:<28} {median:.3f} s")
    print(f"{'import cnnjax over jax':<28} {over:.3f} s")
    write_results(RESULTS, {"rounds": ROUNDS, "median_seconds": medians, "import_cnnjax_over_jax_seconds": over})


if __name__ == "__main__":
    main()
