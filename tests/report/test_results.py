"""Results as JSON: what was measured, with the commit it was measured on."""

import json
import os
import platform
import statistics
import subprocess
import sys

import jax
import numpy as np
import pytest

from cnnjax.report.results import hardware, mean_and_deviation, write_results

NOBODY = {"GIT_AUTHOR_NAME": "n", "GIT_AUTHOR_EMAIL": "n@n", "GIT_COMMITTER_NAME": "n", "GIT_COMMITTER_EMAIL": "n@n"}


def git(folder, *arguments):
    environment = os.environ | NOBODY | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """A folder under git, with one commit."""
    git(tmp_path, "init", "--quiet")
    (tmp_path / "code.py").write_text("1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    return tmp_path


def written(path, measured):
    write_results(path, measured)
    return json.loads(path.read_text(encoding="utf-8"))


def test_what_was_measured_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["experiments/some.py", "--seeds", "5"])
    measured = {"accuracy": {"mean": 0.985, "deviation": 0.001}, "seeds": [0, 1], "note": "größer"}
    record = written(tmp_path / "new" / "folder" / "some.json", measured)
    assert {name: record[name] for name in measured} == measured
    assert record["command"] == "python experiments/some.py --seeds 5"
    assert record["versions"]["python"] == platform.python_version()
    assert record["versions"]["jax"] == jax.__version__
    assert record["hardware"] == hardware()


def test_a_command_names_no_place_of_the_machine(tmp_path, monkeypatch):
    given = ["experiments/some.py", "--data", str(tmp_path / "nuclei"), f"--python={tmp_path}/bin/python", "--rate=1/2"]
    monkeypatch.setattr(sys, "argv", given)
    command = written(tmp_path / "some.json", {})["command"]
    assert command == "python experiments/some.py --data nuclei --python=python --rate=1/2"


def test_hardware_in_words():
    assert f"{jax.device_count()} {jax.devices()[0].device_kind} device(s), " in hardware()
    assert hardware().endswith(f"{os.cpu_count()} cores")


def test_the_commit_is_that_of_the_folder(checkout):
    head = git(checkout, "rev-parse", "--short=12", "HEAD")
    assert written(checkout / "some.json", {})["commit"] == head
    # A new file, such as the results themselves, is no change of the code.
    assert written(checkout / "some.json", {})["commit"] == head
    (checkout / "code.py").write_text("2\n")
    assert written(checkout / "some.json", {})["commit"] == f"{head}-dirty"


def test_the_commit_is_known_in_a_folder_made_for_the_results(checkout):
    head = git(checkout, "rev-parse", "--short=12", "HEAD")
    assert written(checkout / "results" / "some.json", {})["commit"] == head


def test_outside_of_git_the_commit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert written(tmp_path / "some.json", {})["commit"] == "unknown"


@pytest.mark.parametrize("values", [[0.9, 0.8, 0.95], [1, 2], [3.5] * 4])
def test_mean_and_deviation_are_numpys(values):
    found = mean_and_deviation(values)
    assert found["mean"] == pytest.approx(np.mean(values), rel=1e-12)
    assert found["deviation"] == pytest.approx(np.std(values, ddof=1), rel=1e-12)
    assert found["deviation"] == statistics.stdev(values)


def test_one_value_has_no_deviation():
    assert mean_and_deviation([0.5]) == {"mean": 0.5, "deviation": 0.0}
