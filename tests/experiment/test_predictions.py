"""What a run's network says of files, folders and arrays."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnjax.data import ReadPictures, open_source
from cnnjax.experiment import load_run
from cnnjax.experiment.predictions import picture_files, read_picture

DIGITS = tuple("0123456789")


@pytest.fixture(scope="module")
def trained(run_dir):
    return load_run(run_dir)


@pytest.fixture
def folder(tmp_path):
    """Pictures of several kinds and sizes, and a file that is none."""
    source = open_source("digits", "test")
    digit = Image.fromarray(np.asarray(source[0]["image"])[..., 0])
    (tmp_path / "more").mkdir()
    digit.save(tmp_path / "b.png")
    digit.resize((50, 41)).save(tmp_path / "a.PNG")
    digit.convert("RGB").resize((17, 70)).save(tmp_path / "more" / "c.jpg", quality=95)
    digit.convert("L").save(tmp_path / "more" / "d.bmp")
    (tmp_path / "notes.txt").write_text("none")
    return tmp_path


def shares_of(trained, pictures):
    logits = np.asarray(trained(pictures), np.float64)
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def test_arrays_are_predicted_whatever_the_batch_size(trained):
    pictures = np.random.default_rng(0).integers(0, 256, (5, 16, 24, 1)).astype(np.uint8)
    expected = shares_of(trained, pictures)
    for batch_size in (1, 2, 5, 64):
        found = trained.predict(pictures, batch_size=batch_size)
        assert found.names == ("0", "1", "2", "3", "4")
        np.testing.assert_allclose(found.values["probabilities"], expected, rtol=1e-4, atol=1e-6)
        assert found.values["label"].tolist() == expected.argmax(-1).tolist()
    # Floats from 0 to 1 are the same pictures.
    np.testing.assert_allclose(trained.predict(pictures / 255).values["probabilities"], expected, rtol=1e-4, atol=1e-5)


def test_records_name_classes_and_all_probabilities(trained):
    pictures = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 1)).astype(np.uint8)
    expected, found = shares_of(trained, pictures), trained.predict(pictures)
    for row, shares in zip(found.rows(), expected, strict=True):
        assert list(row) == ["picture", "class", "probability", *(f"probability of {name}" for name in DIGITS)]
        assert row["class"] == str(shares.argmax())
        assert row["probability"] == pytest.approx(shares.max(), rel=1e-4)
        assert [row[f"probability of {name}"] for name in DIGITS] == pytest.approx(list(shares), rel=1e-4, abs=1e-6)
    header, rows = found.table()
    assert (list(header), len(rows)) == (["picture", "class", "probability"], 2)


def test_files_and_folders_of_any_size_and_kind(trained, folder, outcome):
    names = [folder / name for name in ("a.PNG", "b.png", "more/c.jpg", "more/d.bmp")]
    found = trained.predict(folder)
    assert sorted(found.names) == sorted(map(str, names))
    assert trained.predict(str(folder)).names == found.names
    one_by_one = trained.predict([folder / "b.png", str(folder / "more")])
    assert one_by_one.names == tuple(map(str, [folder / "b.png", folder / "more" / "c.jpg", folder / "more" / "d.bmp"]))
    # A file of the run's first test picture says what the run's test said of it; in another container too.
    at = {name: place for place, name in enumerate(found.names)}
    plain, bitmap = (found.values["probabilities"][at[str(folder / name)]] for name in ("b.png", "more/d.bmp"))
    np.testing.assert_array_equal(plain, bitmap)
    expected = outcome.training.evaluation.predictions["probabilities"][0]
    np.testing.assert_allclose(plain, expected, rtol=1e-4, atol=1e-6)


def test_all_is_written_as_csv_or_json(trained, folder):
    found = trained.predict(folder / "b.png")
    found.write(folder / "out.csv")
    with (folder / "out.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    found.write(folder / "out.json")
    (same,) = json.loads((folder / "out.json").read_text())
    assert (row["picture"], row["class"]) == (same["picture"], same["class"]) == (str(folder / "b.png"), same["class"])
    assert [float(row[name]) for name in row if name.startswith("prob")] == pytest.approx(
        [value for name, value in same.items() if name.startswith("prob")], rel=1e-3
    )
    assert len(same) == 3 + len(DIGITS)


def test_probabilities_are_drawn(trained, folder):
    axes = trained.predict(folder).draw().axes[0]
    np.testing.assert_allclose(np.asarray(axes.images[0].get_array()).sum(1), 1, rtol=1e-5)
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [
        Path(name).name for name in trained.predict(folder).names
    ]


def test_what_cannot_be_predicted(trained, folder):
    with pytest.raises(FileNotFoundError, match=r"there is no .*nothing.png; pass files or folders of pictures"):
        trained.predict(folder / "nothing.png")
    (folder / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"there is no picture in .*empty"):
        trained.predict([folder / "b.png", folder / "empty"])
    with pytest.raises(ValueError, match=r"notes.txt: "):
        trained.predict([folder / "b.png", folder / "notes.txt"])
    with pytest.raises(ValueError, match="no pictures came; expected at least one"):
        trained.predict([])
    with pytest.raises(ValueError, match="no pictures came; expected at least one"):
        trained.predict(np.zeros((0, 16, 24, 1), np.uint8))
    with pytest.raises(ValueError, match="batch_size=0; expected a number above 0"):
        trained.predict(folder, batch_size=0)
    with pytest.raises(ValueError, match=r"shape \(1, 16, 16, 3\); expected \(batch, height, width, 1\)"):
        trained.predict(np.zeros((1, 16, 16, 3), np.uint8))


def test_grey_files_have_three_equal_channels_where_the_run_saw_colours(folder):
    found = read_picture(folder / "b.png", read=ReadPictures((20, 24)), channels=3)
    assert (found.shape, found.dtype) == ((20, 24, 3), np.uint8)
    np.testing.assert_array_equal(found[..., :1] + np.zeros((1, 1, 3), np.uint8), found)
    grey = read_picture(folder / "more" / "c.jpg", read=ReadPictures((20, 24), "cover"), channels=1)
    assert grey.shape == (20, 24, 1)


def test_pictures_of_a_folder_come_in_order(folder):
    found = picture_files([folder / "more", folder / "b.png", folder])
    names = [path.relative_to(folder).as_posix() for path in found]
    assert names[:3] == ["more/c.jpg", "more/d.bmp", "b.png"]
    assert sorted(names[3:]) == ["a.PNG", "b.png", "more/c.jpg", "more/d.bmp"]
