"""Orbax's writer: what fails is told once, in one line, and the process leaves."""

import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cnnjax.train.checkpoint import Checkpoints
from tests.train.test_checkpoint import noise, save_and_wait, saved, small_state

NO_FILE_GROWS = """
import resource, sys
from pathlib import Path
import orbax.checkpoint as ocp
from cnnjax.train.checkpoint import Checkpoints
from tests.train.test_checkpoint import save_and_wait, small_state
folder, limit = Path(sys.argv[1]), resource.getrlimit(resource.RLIMIT_FSIZE)
with Checkpoints(folder, report=lambda text: None) as checkpoints:
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, limit[1]))  # files may not grow over this, as on a full disk
    try:
        checkpoints.save(small_state(2), 2)
        checkpoints.wait()
    except OSError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        print(error)
    assert checkpoints.steps == [1]
    assert int(checkpoints.restore(small_state()).step) == 1
    save_and_wait(checkpoints, small_state(2))

    # A folder that is gone before anything can be written into it.
    def save(writer, folder, plain=ocp.AsyncCheckpointer.save, **options):
        folder.parent.rmdir()
        folder.parent.touch()
        plain(writer, folder, **options)
    ocp.AsyncCheckpointer.save = save
    try:
        save_and_wait(checkpoints, small_state(3))
    except OSError as error:
        print(error)
"""


def in_a_new_process(script, folder):
    """What a script says of a folder, in a process that leaves and prints no errors of its threads."""
    command, root = [sys.executable, "-c", script, folder], Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_write_that_fails_is_told_and_harms_nothing(tmp_path):
    """In a process of its own: after a failed write TensorStore's threads go on calling into a closed event loop."""
    folder = saved(tmp_path / "checkpoints", 1)
    assert re.fullmatch(
        r"the checkpoint of step 2 could not be written to .* \(.+\); the newest complete one is that of step 1\n"
        r"the checkpoint of step 3 could not be written to .*Not a directory.*; the newest .* is that of step 2\n",
        in_a_new_process(NO_FILE_GROWS, folder),
    )
    with Checkpoints(folder) as checkpoints:
        assert int(checkpoints.restore(small_state()).step) == 2


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 800 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=800k", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("nothing may be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


SECOND_OF_TWO = """
import sys
from pathlib import Path
from cnnjax.train.checkpoint import Checkpoints
from tests.train.test_checkpoint import noise, save_and_wait
with Checkpoints(Path(sys.argv[1])) as checkpoints:
    try:
        save_and_wait(checkpoints, noise(2))
    except OSError as error:
        print(checkpoints.latest, error)
"""


def test_a_full_disk_is_told_and_the_checkpoint_before_is_untouched(small_disk):
    folder = small_disk / "checkpoints"
    with Checkpoints(folder) as checkpoints:
        save_and_wait(checkpoints, noise(1))
    files = {path: path.read_bytes() for path in (folder / "1").rglob("*") if path.is_file()}
    said = in_a_new_process(SECOND_OF_TWO, folder)
    assert re.fullmatch(
        r"1 the checkpoint of step 2 could not .*No space left on device\); .* is that of step 1\n", said
    )
    assert {path: path.read_bytes() for path in files} == files
    with Checkpoints(folder) as checkpoints:
        restored = checkpoints.restore(noise(0))
    np.testing.assert_array_equal(restored.params["kernel"], noise(1).params["kernel"])


def test_only_errors_of_a_write_are_left_out_of_what_asyncio_logs(tmp_path, caplog):
    saved(tmp_path / "checkpoints", 1)
    logger = logging.getLogger("asyncio")
    for text in ("Failed to write 162 bytes [os_error_code='27'] [tensorstore_spec='{}']", "an error of the user's"):
        try:
            raise ValueError(text)
        except ValueError as error:
            logger.error("Task exception was never retrieved", exc_info=error)
    assert [str(record.exc_info[1]) for record in caplog.records if record.name == "asyncio"] == [
        "an error of the user's"
    ]
