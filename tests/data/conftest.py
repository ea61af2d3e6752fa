"""Tiny sources made here: an IDX folder packed by hand, and TFDS sets prepared without TensorFlow."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.tiny_sources import encode, write_idx


@pytest.fixture(autouse=True)
def own_cache(cache_folder) -> None:
    """Indexes and statistics of other tests are not found."""


@pytest.fixture
def idx_folder(tmp_path) -> Path:
    """Twenty train and ten test images of 3x4; image i is filled with i; labels count up to 9, and to 1."""
    for stem, count, classes in (("train", 20, 10), ("t10k", 10, 2)):
        images = np.broadcast_to(np.arange(count)[:, None, None], (count, 3, 4))
        write_idx(tmp_path / "mnist", stem, images, np.arange(count) % classes)
    return tmp_path / "mnist"


@pytest.fixture(scope="session")
def tfds_root(tmp_path_factory) -> Path:
    """Three sets: "tiny" (train of 20, test of 5, two versions), "single" (one split of 50), "columns" (parquet).

    Every picture is filled with its "number"; those of odd numbers are 6x5, the others 4x5; kind is number modulo 3.
    """
    import tensorflow_datasets as tfds

    class Numbered(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("9.0.0")
        SUPPORTED_VERSIONS = [tfds.core.Version("10.0.0")]  # noqa: RUF012
        counts = {"train": 20, "test": 5}  # noqa: RUF012

        def _info(self):
            features = {
                "picture": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                "kind": tfds.features.ClassLabel(names=["cat", "dog", "eel"]),
                "number": np.int64,
                "id": np.int64,
                "box": tfds.features.BBoxFeature(),
                "caption": tfds.features.Text(),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, _):
            return {name: self._generate_examples(count) for name, count in self.counts.items()}

        def _generate_examples(self, count):
            for i in range(count):
                picture = Image.fromarray(np.full((4 + 2 * (i % 2), 5, 3), i, np.uint8))
                yield (
                    i,
                    {
                        "picture": encode(picture, "PNG"),
                        "kind": i % 3,
                        "number": i,
                        "id": 100 + i,
                        "box": tfds.features.BBox(0.0, 0.0, 0.5, 1.0),
                        "caption": f"number {i}",
                    },
                )

    class Tiny(Numbered, skip_registration=True):
        pass

    class Single(Numbered, skip_registration=True):
        counts = {"train": 50}  # noqa: RUF012

    class Columns(Numbered, skip_registration=True):
        pass

    root = tmp_path_factory.mktemp("tfds")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for kind, version in ((Tiny, "9.0.0"), (Tiny, "10.0.0"), (Single, "9.0.0"), (Columns, "9.0.0")):
            # For a class of a dotted module, TFDS imports importlib_resources, which it does not bring along.
            kind.__module__ = "conftest"
            file_format = "parquet" if kind is Columns else "array_record"
            kind(data_dir=root, version=version, file_format=file_format).download_and_prepare()
    return root
