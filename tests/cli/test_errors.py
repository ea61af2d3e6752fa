"""What ends a command: wrong input in one line, interruptions, outputs that nobody reads, and bugs."""

import os
import subprocess
import sys

import pytest

from cnnjax.cli.errors import one_line_errors


def test_an_interruption_exits_with_130(capsys):
    with pytest.raises(SystemExit) as exit_, one_line_errors():
        raise KeyboardInterrupt
    assert exit_.value.code == 130
    assert "--resume" in capsys.readouterr().err


def test_the_traceback_is_there_for_those_who_ask(monkeypatch):
    monkeypatch.setenv("CNNJAX_TRACEBACK", "1")
    with pytest.raises(ValueError, match="told"), one_line_errors():
        raise ValueError("told")


def test_names_in_errors_do_not_steer_the_terminal(capsys):
    with pytest.raises(SystemExit), one_line_errors():
        raise ValueError("class '\x1b]0;owned\x07\nerror: none' of photo\u202egnp.exe")
    assert (
        capsys.readouterr().err.splitlines()[0] == r"error: class '\x1b]0;owned\x07\nerror: none' of photo\u202egnp.exe"
    )


def test_an_output_in_ascii_ends_no_command(tmp_path):
    """Nor a folder whose name is not UTF-8."""
    code = "from cnnjax.cli.errors import one_line_errors\nwith one_line_errors():\n    print('größe \\udce9')"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert done.stdout == rb"gr\xf6\xdfe \udce9" + b"\n"


def test_other_errors_are_not_dressed_up():
    with pytest.raises(KeyError, match="bug"), one_line_errors():
        raise KeyError("bug")
