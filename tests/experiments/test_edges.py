"""Regions, scores by hand, and a tiny run of everything without weights."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from PIL import Image

from cnnjax import layers, models
from experiments import edges
from tests.experiments.pages import written


def test_the_band_is_about_the_roof_line():
    band = edges.roof_band(427, 640)
    for column, row in edges.ROOF[0] + edges.ROOF[1]:
        assert band[row, column]
        assert not band[row + 12, column]
    assert band[77 - edges.REACH : 77 + edges.REACH + 1, 228].all()
    assert not band[edges.SKY].any()
    assert not any(band[part].any() for part in edges.FOLIAGE)


def test_what_answers_at_the_roof_alone_stands_above_all_foliage():
    found = edges.contrast(edges.roof_band(427, 640) + 0.5)
    assert found == {"roof": 1.5, "sky": 0.5, "ratio": 3.0, "above_foliage": 1.0}
    assert edges.contrast(np.ones((427, 640)))["above_foliage"] == 0.5


def test_kernels_are_slopes_and_differences_from_neighbours():
    ramp = np.broadcast_to(np.arange(6.0, dtype=np.float32)[None, None, :, None], (1, 5, 6, 3))
    np.testing.assert_allclose(edges.sobel(ramp)[0, :, 1:-1], 1.0, rtol=1e-6)
    np.testing.assert_allclose(edges.laplacian(ramp)[0, :, 1:-1], 0.0, atol=1e-6)


def test_precision_and_recall_forgive_a_pixel():
    """By hand: of four predicted pixels three lie near the border, all of whose five pixels are near these."""
    borders, answers = np.zeros((1, 9, 9), bool), np.zeros((1, 9, 9))
    borders[0, 4, 2:7] = True
    answers[0, 3, 3:6] = 0.7
    answers[0, 8, 8] = 0.7
    counts = edges.count(answers, borders)
    low = int(np.searchsorted(edges.THRESHOLDS, 0.5))
    assert (counts.right[low], counts.predicted[low], counts.found[low], counts.borders[low]) == (3, 4, 5, 5)
    np.testing.assert_allclose(counts.f_score[low], 2 * 0.75 * 1.0 / 1.75)
    assert counts.predicted[-1] == counts.f_score[-1] == 0


def test_label_maps_are_read_with_their_pictures(tmp_path):
    with pytest.raises(ValueError, match=r"images holds no \.png; expected pictures, and label maps in .*instances"):
        edges.read_label_maps(tmp_path / "train")
    _write(tmp_path / "train", 2)
    source = edges.read_label_maps(tmp_path / "train")
    assert source[1]["masks"].max() == 301
    quarters = edges.quartered(source)
    assert len(quarters) == 8
    np.testing.assert_array_equal(quarters[3]["masks"], source[1]["masks"][:16, 16:])
    np.testing.assert_array_equal(quarters[3]["image"], source[1]["image"][:16, 16:])


class Tiny(nn.Module):
    """Called as HED is."""

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array | models.AuxiliaryLogits:
        logits = layers.Conv(1, (3, 3), name="conv")(images / 255)
        return models.AuxiliaryLogits(logits, (2 * logits,), 1.0) if train else logits


@pytest.mark.usefixtures("unchecked_types")
def test_everything_is_compared_without_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(edges, "RESULTS", tmp_path / "edges.json")
    monkeypatch.setattr(models, "create", lambda name: Tiny())
    for split in ("train", "test"):
        _write(tmp_path / "nuclei" / split, 2)
    edges.main(edges.Options(train=tmp_path / "nuclei", steps=1, out=tmp_path / "out"))
    found = written(tmp_path / "out")
    assert found["sobel"]["ratio"] > 10
    assert [row["edges"] for row in found["borders"]["scores"]] == [
        "Sobel",
        "HED, before training",
        "HED, trained on borders",
    ]
    assert np.isfinite(found["borders"]["test_loss"]["after"])
    assert "fields" not in found
    assert (tmp_path / "out" / "pictures.png").exists()
    assert "Sobel: F" in capsys.readouterr().out
    assert not (tmp_path / "edges.json").exists()


def _write(folder, count):
    """Squares on dark ground."""
    for kind in ("images", "instances"):
        (folder / kind).mkdir(parents=True)
    for number in range(count):
        labels = np.zeros((32, 32), np.uint16)
        labels[4:12, 5:14], labels[18:29, 10:25] = 300, 301
        pixels = np.where(labels[..., None] > 0, 180, 30 + number) * np.ones(3)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / f"{number}.png")
        Image.fromarray(labels).save(folder / "instances" / f"{number}.png")
