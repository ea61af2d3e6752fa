"""Formatting, lint and types, exactly as pinned in pyproject.toml."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMMANDS = {
    "format": ["ruff", "format", "--check", "."],
    "lint": ["ruff", "check", "."],
    "types": ["pyrefly", "check", "--python-interpreter-path", sys.executable],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_gate(name):
    # Of the tools beside this Python, so that no other version on the machine answers.
    tool = Path(sys.executable).parent / COMMANDS[name][0]
    done = subprocess.run([tool, *COMMANDS[name][1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
