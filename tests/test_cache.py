import os
import stat
from pathlib import Path

import pytest

from cnnjax.cache import cache_folder, private_folder, read_cache, write_cache

users = pytest.mark.skipif(not hasattr(os, "getuid"), reason="users are unknown here")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"CNNJAX_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
        ({"CNNJAX_CACHE": "~/a"}, "/home/me/a"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/cnnjax"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/cnnjax"),
        ({}, "/home/me/.cache/cnnjax"),
    ],
)
def test_where_caches_lie(monkeypatch, environment, expected):
    for name in ("CNNJAX_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **environment}.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)


def test_what_is_written_is_read_and_nobody_else_reads_it(cache_folder):
    assert read_cache("a.json") is None
    assert write_cache("a.json", b"first")
    assert write_cache("a.json", b"second")
    assert read_cache("a.json") == b"second"
    assert [path.name for path in cache_folder.iterdir()] == ["a.json"]
    assert (cache_folder.stat().st_mode & 0o777, (cache_folder / "a.json").stat().st_mode & 0o077) == (0o700, 0)


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path / "file" / "below"))
    assert not write_cache("a.json", b"data")
    assert read_cache("a.json") is None


def test_an_unfinished_write_leaves_nothing(cache_folder, monkeypatch):
    def fail(source, target):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "replace", fail)
    assert not write_cache("a.json", b"data")
    assert list(cache_folder.iterdir()) == []


@users
def test_another_users_folder_is_not_trusted(cache_folder, monkeypatch):
    assert write_cache("a.json", b"data")
    if os.getuid() == 0:
        os.chown(cache_folder, 4242, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 4242)
    assert read_cache("a.json") is None
    assert not write_cache("a.json", b"data")


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@users
@pytest.mark.parametrize("mask", [0o000, 0o002, 0o022, 0o077])
@pytest.mark.parametrize("write", [lambda: write_cache("a.json", b"data"), lambda: private_folder("compiled")])
def test_every_level_that_is_made_is_for_its_owner_alone(tmp_path, monkeypatch, mask, write):
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path / "a" / "b" / "cnnjax"))
    before = os.umask(mask)
    try:
        assert write()
    finally:
        os.umask(before)
    made = [path for path in tmp_path.rglob("*") if path.is_dir()]
    assert len(made) >= 3
    assert {mode(path) for path in made} == {0o700}


@users
def test_a_folder_that_was_left_open_is_closed(cache_folder):
    cache_folder.mkdir(0o755)
    cache_folder.chmod(0o777)
    assert write_cache("a.json", b"data")
    assert mode(cache_folder) == 0o700
    cache_folder.chmod(0o777)
    assert read_cache("a.json") == b"data"
    assert mode(cache_folder) == 0o700


@users
def test_only_files_of_ones_own_are_read(cache_folder, monkeypatch):
    assert write_cache("a.json", b"data")
    kept = cache_folder / "a.json"
    (cache_folder / "link.json").symlink_to(kept)
    (cache_folder / "folder.json").mkdir()
    os.mkfifo(cache_folder / "pipe.json")
    for name in ("link.json", "folder.json", "pipe.json"):
        assert read_cache(name) is None
    kept.chmod(0o666)
    assert read_cache("a.json") is None
    kept.chmod(0o600)
    assert read_cache("a.json") == b"data"
    # Another's: by the file's owner where one may give it away, else as if one were another oneself.
    if os.getuid() == 0:
        os.chown(kept, 4242, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 4242)
    assert read_cache("a.json") is None


@users
def test_links_are_no_cache(tmp_path, monkeypatch, cache_folder):
    (tmp_path / "theirs").mkdir(0o700)
    cache_folder.mkdir(0o700)
    (cache_folder / "compiled").symlink_to(tmp_path / "theirs")
    assert private_folder("compiled") is None
    monkeypatch.setenv("CNNJAX_CACHE", str(cache_folder / "compiled"))
    assert private_folder("programs") is None
    assert not write_cache("a.json", b"data")
    (tmp_path / "theirs" / "a.json").write_bytes(b"data")
    assert read_cache("a.json") is None


@users
def test_a_folder_of_programs_that_others_could_write_into_is_not_used(cache_folder):
    folder = private_folder("compiled")
    (folder / "program").write_bytes(b"code")
    assert private_folder("compiled") == folder
    folder.chmod(0o777)
    assert private_folder("compiled") is None
    folder.chmod(0o700)
    (folder / "link").symlink_to(folder / "program")
    assert private_folder("compiled") is None
    (folder / "link").unlink()
    if os.getuid() == 0:
        os.chown(folder / "program", 4242, -1)
        assert private_folder("compiled") is None
