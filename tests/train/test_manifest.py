"""The manifest: every file and array is in it, and no change to any goes unseen."""

import errno
import hashlib
import os
import subprocess
from collections import namedtuple

import jax.numpy as jnp
import pytest

from cnnjax.train.manifest import Manifest, describe_arrays, differences, read_manifest, verify, write_manifest

# Of FIPS 180-4: of nothing, and of "abc".
NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
EXPECTED = Manifest({"a/b": (3, ABC), "empty": (0, NOTHING)}, {"w": "float32[2]"}, 0.5, {"seed": 1, "names": ["x"]})


@pytest.fixture
def folder(tmp_path):
    """Two files, one of them in a folder, and their manifest."""
    (tmp_path / "120" / "a").mkdir(parents=True)
    (tmp_path / "120" / "a" / "b").write_text("abc")
    (tmp_path / "120" / "empty").touch()
    write_manifest(tmp_path / "120", arrays=EXPECTED.arrays, score=EXPECTED.score, record=EXPECTED.record)
    return tmp_path / "120"


def test_sizes_and_checksums_are_the_published_ones(folder):
    assert read_manifest(folder) == verify(folder) == EXPECTED
    assert os.listdir(folder.parent) == ["120"]


def test_its_first_line_is_the_checksum_of_the_rest(folder):
    first, _, rest = (folder / "manifest.json").read_bytes().partition(b"\n")
    assert first.decode() == hashlib.sha256(rest).hexdigest()
    said = subprocess.run(["sha256sum"], input=rest, capture_output=True, check=True).stdout
    assert said.split()[0] == first


def test_every_byte_of_it_counts(folder):
    path = folder / "manifest.json"
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
            read_manifest(folder)
        path.write_bytes(whole[:place])
        with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
            read_manifest(folder)
    path.unlink()
    with pytest.raises(ValueError, match=r"manifest\.json is damaged .*No such file"):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a/b", "abd", "a/b is damaged: its bytes are not those that were written"),
        ("a/b", "ab", "a/b is damaged: 2 bytes, and 3 were written"),
        ("a/b", "", "a/b is damaged: 0 bytes, and 3 were written"),
        ("empty", "x", "empty is damaged: 1 bytes, and 0 were written"),
        ("a/b", None, "a/b is damaged: .*No such file"),
        ("empty", None, "empty is damaged: .*No such file"),
    ],
)
def test_a_file_that_changed_is_named(folder, name, content, said):
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(ValueError, match=said):
        verify(folder)
    assert read_manifest(folder) == EXPECTED


def test_it_is_there_whole_or_not_at_all(folder, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = (folder / "manifest.json").read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_manifest(folder, arrays={}, score=None, record={})
    assert (folder / "manifest.json").read_bytes() == before
    (folder / "manifest.json").unlink()
    with pytest.raises(OSError, match="No space left"):
        write_manifest(folder, arrays={}, score=None, record={})
    assert not (folder / "manifest.json").exists()


def test_arrays_are_described_by_path_type_and_shape():
    moments = namedtuple("Moments", "mu nu")
    tree = {
        "params": {"kernel": jnp.zeros((3, 3, 1, 6)), "bias": jnp.zeros(6, jnp.bfloat16)},
        "opt_state": (moments(jnp.zeros((), jnp.int32), None), ()),
        "averages": {},
        "mask": jnp.zeros((2, 0), bool),
    }
    assert describe_arrays(tree) == {
        "params/kernel": "float32[3, 3, 1, 6]",
        "params/bias": "bfloat16[6]",
        "opt_state/0/mu": "int32[]",
        "mask": "bool[2, 0]",
    }


def test_differences_are_told_both_ways_and_counted_past_ten():
    assert differences({"a": "int32[]", "b": "int32[2]"}, {"b": "int32[2]", "a": "int32[]"}) == ""
    assert (
        differences({"same": "x", "a": "int32[]", "gone": "int8[]"}, {"same": "x", "a": "int64[]", "new": "int8[1]"})
        == "a: int32[] there, int64[] here; gone: int8[] there, nothing here; new: nothing there, int8[1] here"
    )
    many = differences({str(number): "int32[]" for number in range(12)}, {})
    assert many.count("int32[] there, nothing here") == 10
    assert many.endswith("9: int32[] there, nothing here; and 2 more")
