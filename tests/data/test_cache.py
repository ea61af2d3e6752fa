import os
from pathlib import Path

import pytest

from cnnjax.data.cache import cache_folder, read_cache, write_cache


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


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="users are unknown here")
def test_another_users_folder_is_not_trusted(cache_folder, monkeypatch):
    assert write_cache("a.json", b"data")
    if os.getuid() == 0:
        os.chown(cache_folder, 4242, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 4242)
    assert read_cache("a.json") is None
    assert not write_cache("a.json", b"data")
