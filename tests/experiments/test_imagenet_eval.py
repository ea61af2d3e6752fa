"""Accuracy of public weights over a folder of pictures."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image

from cnnjax.data import open_source
from experiments import imagenet_eval


class Brightest(nn.Module):
    """Class by the largest channel, from red to blue."""

    @nn.compact
    def __call__(self, images, *, train=False):
        return jnp.mean(images, axis=(1, 2))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three classes by name; one red picture lies among the blue ones."""
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path / ".cache"))
    colours = {"a_red": [(200, 0, 0)] * 3, "b_green": [(0, 200, 0)] * 2, "c_blue": [(0, 0, 200), (200, 0, 0)]}
    for name, pictures in colours.items():
        (tmp_path / name).mkdir()
        for number, colour in enumerate(pictures):
            Image.new("RGB", (40 + number, 30), colour).save(tmp_path / name / f"{number}.PNG")
    (tmp_path / "a_red" / "notes.txt").write_text("no picture")
    return tmp_path


def test_accuracy_over_a_folder(folder):
    source = open_source(f"folder:{folder}", "all")
    assert len(source) == 7
    scores = imagenet_eval.evaluate(Brightest(), {}, source, batch_size=4, resize=16, crop=12)
    assert scores == {"top1": pytest.approx(6 / 7), "top5": 1.0}


def test_pictures_are_resized_cropped_and_standardised():
    """The left half is black, the right white; the middle of 60x30 at half size."""
    pixels = np.zeros((30, 60, 3), np.uint8)
    pixels[:, 30:] = 255
    found = imagenet_eval.prepare(pixels, resize=15, crop=10)
    assert found.shape == (10, 10, 3)
    np.testing.assert_allclose(found[:, 0, 1], (0 - 0.456) / 0.224, rtol=1e-5)
    np.testing.assert_allclose(found[:, -1, 2], (1 - 0.406) / 0.225, rtol=1e-5)


def test_a_picture_that_cannot_be_read_is_named(folder):
    (folder / "b_green" / "0.PNG").write_bytes(b"no picture")
    source = open_source(f"folder:{folder}", "all")
    with pytest.raises(ValueError, match=r"b_green/0\.PNG: .* do not decode"):
        imagenet_eval.evaluate(Brightest(), {}, source, batch_size=4, resize=8, crop=8)
