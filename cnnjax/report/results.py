"""Measured results as JSON: what was measured, by which command, on which code and machine."""

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from cnnjax.train.run_folder import versions


def write_results(path: Path, measured: Mapping[str, Any]) -> None:
    """Writes what a script measured, with the command, commit, hardware and versions it was measured with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "command": " ".join(["python", *map(_named, sys.argv)]),
        "commit": _commit(path.parent),
        "hardware": hardware(),
        "versions": {"python": platform.python_version(), **versions()},
        **measured,
    }
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def mean_and_deviation(values: Sequence[float]) -> dict[str, float]:
    """Mean and (sample) standard deviation.

    >>> mean_and_deviation([1.0, 3.0])
    {'mean': 2.0, 'deviation': 1.4142135623730951}
    """
    return {
        "mean": statistics.fmean(values),
        "deviation": statistics.stdev(values) if len(values) > 1 else 0.0,
    }


def hardware() -> str:
    """Devices, processor and cores, in words."""
    devices = jax.devices()
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    return f"{len(devices)} {devices[0].device_kind} device(s), {processor}, {os.cpu_count()} cores"


def _commit(folder: Path) -> str:
    """The commit that is checked out around a folder, marked where files differ from it; "unknown" outside of git."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def _named(argument: str) -> str:
    """An argument of the command; of a place on this machine its last part alone."""
    option, equals, value = argument.rpartition("=")
    return f"{option}{equals}{Path(value).name}" if Path(value).is_absolute() else argument
