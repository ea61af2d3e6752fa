"""Proposals beside the pictures of a source, found once, moved with them on the host and on the device."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cnnjax.data import ArraySource, Info, ReadPictures, augment, read_example
from cnnjax.data.proposals import SearchedProposals, cache, proposals_of, selective_search
from cnnjax.settings import Proposals

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 30, 40, 3)).astype(np.uint8)
PICTURES[:, 5:25, 10:35] = (250, 20, 20)


def encoded(picture):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


class Files:
    """Pictures as the bytes of files."""

    info = Info("files", "all", {"image": (None, None, 3)})

    def __len__(self):
        return len(PICTURES)

    def __getitem__(self, index):
        return {"image": encoded(PICTURES[index])}

    def column(self, name):
        return None


def source_of(images, folder, **options):
    source = ArraySource({"image": images, "label": np.arange(len(images))}, Info("mine", "all", {}))
    return SearchedProposals(source, Proposals(most=12, smallest=5, folder=folder, **options))


def test_examples_have_the_boxes_of_selective_search(tmp_path):
    source = source_of(PICTURES, tmp_path)
    expected = selective_search(PICTURES[1], most=12, smallest=5)
    example = source[1]
    assert (example["proposals"].shape, example["label"]) == ((12, 4), 1)
    np.testing.assert_array_equal(example["proposals"][: len(expected)], expected)
    assert not example["proposals"][len(expected) :].any()
    assert source.info.shapes["proposals"] == (12, 4)
    assert source.column("label").tolist() == [0, 1, 2]
    assert (len(source), source.info.fingerprint) == (3, source.source.info.fingerprint)


def test_encoded_and_grey_pictures_are_searched(tmp_path):
    coded = SearchedProposals(Files(), Proposals(most=12, smallest=5, folder=tmp_path / "coded"))
    np.testing.assert_array_equal(coded[0]["proposals"], source_of(PICTURES, tmp_path / "plain")[0]["proposals"])
    grey = PICTURES[0, :, :, :1]
    same = np.repeat(grey, 3, axis=2)
    settings = Proposals(most=12, smallest=5, folder=tmp_path)
    np.testing.assert_array_equal(proposals_of(grey, settings), proposals_of(same, settings))


def test_all_are_found_beforehand_and_once(tmp_path, monkeypatch):
    source = source_of(PICTURES, tmp_path)
    source.find_all(console=Console(file=io.StringIO()))
    monkeypatch.setattr(cache, "selective_search", lambda *_, **__: pytest.fail("it was found before"))
    assert source[2]["proposals"].any()


def test_a_folder_of_the_cache_is_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path))
    proposals_of(PICTURES[0], Proposals())
    assert len(list((tmp_path / "proposals").iterdir())) == 1


def test_pictures_that_cannot_be_searched_are_named(tmp_path, unchecked_types):
    source = source_of(PICTURES.astype(np.float32) / 255, tmp_path)
    with pytest.raises(ValueError, match=r"example 0 of mine .* picture is float32 of shape .*; expected uint8"):
        source.find_all()
    source.find_all(skip_unreadable=True)


def test_they_move_as_boxes_do(tmp_path):
    """Enlarged to twice the size on the host, then mirrored on the device."""
    source = source_of(PICTURES, tmp_path)
    plain = source[0]["proposals"]
    placed = read_example(source, 0, read=ReadPictures((60, 80)))
    np.testing.assert_allclose(placed["proposals"], 2 * plain, rtol=1e-6)
    batch = {"image": jnp.asarray(placed["image"])[None], "proposals": jnp.asarray(placed["proposals"])[None]}
    keys = [jax.random.key(seed) for seed in range(8)]
    moved = [augment.on_batch(augment.flip)(key, {**batch, "id": jnp.asarray([0])})["proposals"][0] for key in keys]
    present = plain[:, 2] > 0
    mirrored = np.where(
        present[:, None], 2 * np.stack([40 - plain[:, 2], plain[:, 1], 40 - plain[:, 0], plain[:, 3]], 1), 0
    )
    kinds = {bool(np.allclose(one, mirrored)) for one in moved}
    assert kinds == {True, False}
    assert all(np.allclose(one, mirrored) or np.allclose(one, 2 * plain) for one in moved)
