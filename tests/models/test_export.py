"""Exported files against `model.apply`, read by a process without Flax, and refused where they cannot be read."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from cnnjax.models import export as module
from cnnjax.models.export import export, load_exported
from tests.models.quick import drawn, run_unoptimised

# An open size of the batch is no int, as the checked types have it.
pytestmark = pytest.mark.usefixtures("unchecked_types")

ROOT = Path(__file__).parent.parent.parent

# Small pictures and shallow nets: side, and options.
SMALL = {
    "lenet5": (32, {}),
    "lenet5_1998": (32, {}),
    "convnet": (28, {}),
    "resnet20": (16, {}),
    "se_resnet18": (32, {"depths": (1, 1, 1, 1), "stochastic_depth": 0.5}),
    "mobilenet_v1": (32, {}),
    "densenet121": (32, {"depths": (2, 2, 2, 2)}),
    "googlenet": (79, {"auxiliary": False, "num_classes": None}),
    "preact_resnet164": (16, {"depth": 3}),
}


def pictures(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.fixture
def lenet(unchecked_types):
    """A model, its variables and its file's bytes."""
    return exported_lenet()


@cache
def exported_lenet():
    model = models.create("lenet5")
    variables = drawn(model, jnp.zeros((1, 32, 32, 1)))
    return model, variables, export(model, variables, (32, 32, 1))


def members(content):
    """What a file says of itself, and its program."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return json.loads(file.read("about.json")), file.read("program")


def archive(about, program, compression=zipfile.ZIP_STORED):
    """A file of these members."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as file:
        file.writestr("about.json", about if isinstance(about, str) else json.dumps(about))
        file.writestr("program", program)
    return content.getvalue()


def changed(content, **about):
    """A file that says something else of itself."""
    said, program = members(content)
    return archive(said | about, program)


@pytest.mark.parametrize("name", SMALL)
def test_any_batch_gives_what_the_model_gives(name, tmp_path):
    side, options = SMALL[name]
    model, channels = models.create(name, **options), models.image_shape(name)[-1]
    variables = drawn(model, jnp.zeros((1, side, side, channels)))
    exported, about = load_exported(write(tmp_path / "file.zip", export(model, variables, (side, side, channels))))
    assert about["shape"] == ["b", side, side, channels]
    for batch in (1, 3):
        images = pictures((batch, side, side, channels), batch)
        expected = run_unoptimised(model.apply, variables, images)
        found = run_unoptimised(exported.call, images)
        assert found.shape == expected.shape
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_the_readmes_loader_needs_neither_flax_nor_this_package(lenet, tmp_path):
    model, variables, content = lenet
    write(tmp_path / "digits.zip", content)
    images = pictures((5, 32, 32, 1))
    np.save(tmp_path / "pictures.npy", images)
    (loader,) = [
        block.split("```")[0] for block in (ROOT / "README.md").read_text().split("```python\n# serving\n")[1:]
    ]
    assert len(loader.splitlines()) == 5
    for line in loader.splitlines():
        assert line.strip() in (module.__doc__ or ""), "the module says the same"
    code = "\n".join(
        [
            "import numpy as np",
            "pictures = np.load('pictures.npy')",
            loader,
            "np.save('logits.npy', logits)",
            "import sys",
            "assert not {'flax', 'cnnjax', 'optax'} & set(sys.modules), sys.modules",
        ]
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    expected = np.asarray(jax.jit(model.apply)(variables, images))
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_what_prepares_the_pictures_goes_into_the_file(lenet, tmp_path):
    model, variables, _ = lenet

    def halved(pixels):
        return pixels.astype(jnp.float32) / 255 - 0.5

    content = export(
        model, variables, (2, 32, 32, 1), dtype=jnp.uint8, prepare=halved, record={"classes": [*"abcdefghij"]}
    )
    exported, about = load_exported(write(tmp_path / "file.zip", content))
    assert (about["shape"], about["dtype"], about["classes"]) == ([2, 32, 32, 1], "uint8", [*"abcdefghij"])
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1)).astype(np.uint8)
    expected = np.asarray(model.apply(variables, pixels / np.float32(255) - np.float32(0.5)))
    np.testing.assert_allclose(exported.call(pixels), expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    with pytest.raises(ValueError, match="Shape mismatch"):
        exported.call(pixels[:1])


@pytest.mark.parametrize("shape", [(32, 32, 1), (None, 32, 32, 1), ("n", 32, 32, 1)])
def test_the_batch_is_open_unless_it_is_a_number(lenet, shape, tmp_path):
    model, variables, _ = lenet
    content = export(model, variables, shape, platforms=("cpu",))
    (inputs,) = load_exported(write(tmp_path / "file.zip", content))[0].in_avals
    assert str(inputs.shape[0]) == ("n" if "n" in shape else "b")
    assert inputs.shape[1:] == (32, 32, 1)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((0, 32, 32, 1), {}, r"shape=\(0, 32, 32, 1\); expected \(height, width, channels\)"),
        (("b", "h", 32, 1), {}, r"shape=\('b', 'h', 32, 1\); expected"),
        (("2 b", 32, 32, 1), {}, "or with the batch before them as a number, None or a name"),
        ((20, 20, 1), {}, "pictures of 20x20 are too small for LeNet5"),
        ((32, 32, 3), {}, r"LeNet5 .*\['c1'\]\['kernel'\] should be \(5, 5, 3, 6\), and is \(5, 5, 1, 6\), first of 1"),
        (
            (32, 32, 1),
            {"platforms": ("cpu", "gpu")},
            "platform 'gpu' is unknown; expected some of cpu, cuda, rocm, tpu",
        ),
    ],
)
def test_what_does_not_fit_is_refused(lenet, shape, options, message):
    model, variables, _ = lenet
    with pytest.raises(ValueError, match=message):
        export(model, variables, shape, **options)


def test_variables_of_a_scanned_model_must_be_stacked():
    model = models.create("preact_resnet164", depth=3)
    variables = models.unstack(drawn(model, jnp.zeros((1, 16, 16, 3))))
    with pytest.raises(ValueError, match=r"block2-3.* and is missing, .*stacked, see models\.stack"):
        export(model, variables, (16, 16, 3))


@pytest.mark.parametrize("version", [1, 1000])
def test_a_version_out_of_range_is_refused_with_its_limits(lenet, version, tmp_path):
    least = jax.export.minimum_supported_calling_convention_version
    most = jax.export.maximum_supported_calling_convention_version
    path = write(tmp_path / "file.zip", changed(lenet[2], calling_convention=version, jax="77.0.1"))
    with pytest.raises(ValueError, match=r"file\.zip was exported by jax 77\.0\.1 with calling") as caught:
        load_exported(path)
    said = str(caught.value)
    assert f"with calling convention {version}; jax {jax.__version__} here supports {least} to {most}" in said
    assert said.endswith("export the model again with this jax, or install jax 77.0.1")


def test_a_layout_or_operations_that_cannot_be_read_are_refused(lenet, tmp_path):
    """As those of a later version would be: no flat buffer, and bytecode of version 100, as it is written there."""
    about, program = members(lenet[2])
    place = program.index(b"ML\xefR") + 4
    later = program[:place] + bytes([201]) + program[place + 1 :]
    said = {}
    for name, content in {"layout": b"\x07" * 64, "operations": later}.items():
        told = about | {"jax": "77.0.1", "sha256": hashlib.sha256(content).hexdigest()}
        path = write(tmp_path / f"{name}.zip", archive(told, content))
        with pytest.raises(ValueError, match=r"supports \d+ to \d+, but .*install jax 77\.0\.1") as caught:
            load_exported(path)
        said[name] = str(caught.value)
    assert "cannot read it" in said["layout"]
    assert "but not its operations" in said["operations"]


def test_a_program_is_read_only_if_its_sha256_is_the_one_that_is_said(lenet, tmp_path, monkeypatch):
    about, program = members(lenet[2])
    assert about["sha256"] == hashlib.sha256(program).hexdigest()
    monkeypatch.setattr(jax.export, "deserialize", lambda *_: pytest.fail("the program is parsed"))
    flipped = bytearray(program)
    for place in (100, len(program) // 2):
        flipped[place] ^= 4
    # The archive's own checksums are right: it was packed with the damage.
    path = write(tmp_path / "file.zip", archive(about, bytes(flipped)))
    with pytest.raises(ValueError, match=r"file\.zip is no exported model, or is damaged \(the SHA-256 of the program"):
        load_exported(path)
    del about["sha256"]
    with pytest.raises(ValueError, match=r"is damaged \('sha256'\)"):
        load_exported(write(path, archive(about, program)))


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"shape": ["b", 28, 28, 1]}, r"shape is \['b', 28, 28, 1\], and \['b', 32, 32, 1\] in the program"),
        ({"dtype": "uint8"}, "dtype is uint8, and float32 in the program"),
        ({"platforms": ["cpu"]}, r"platforms is \['cpu'\], and \['cpu', 'cuda', 'rocm', 'tpu'\] in the program"),
        ({"classes": ["cat", "dog"]}, "there are 2 classes, and 10 logits in the program"),
    ],
)
def test_what_a_file_tells_of_another_program_is_refused(lenet, tmp_path, told, message):
    with pytest.raises(ValueError, match=rf"file\.zip: about\.json tells of another program \({message}\)"):
        load_exported(write(tmp_path / "file.zip", changed(lenet[2], **told)))


@pytest.mark.parametrize(
    "about",
    ["[]", "7", "null", "{", "[" * 100_000, '{"calling_convention": Infinity}', '{"calling_convention": [], "jax": 1}'],
    ids=["list", "number", "null", "cut", "nested", "infinite", "of another type"],
)
def test_a_damaged_record_is_one_error(lenet, tmp_path, about):
    path = write(tmp_path / "file.zip", archive(about, members(lenet[2])[1]))
    with pytest.raises(ValueError, match=r"file\.zip is no exported model, or is damaged"):
        load_exported(path)


def test_compressed_members_are_not_unpacked(lenet, tmp_path):
    about, _ = members(lenet[2])
    path = write(tmp_path / "file.zip", archive(about, bytes(2**20), zipfile.ZIP_DEFLATED))
    with pytest.raises(ValueError, match=r"about\.json is compressed"):
        load_exported(path)


COPY = """
import sys
import jax, jax.numpy as jnp
from cnnjax import models
from cnnjax.models.export import export

assert models.__file__.startswith(sys.argv[1]), models.__file__
model = models.create("lenet5")
shapes = jax.eval_shape(lambda: dict(model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 1)))))
variables = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.5), shapes)
open("net.zip", "wb").write(export(model, variables, (32, 32, 1)))
"""


def test_another_copy_in_another_folder_writes_the_same_bytes_without_its_paths(lenet, tmp_path):
    shutil.copytree(ROOT / "cnnjax", tmp_path / "cnnjax", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "make.py").write_text(COPY)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "make.py", str(tmp_path)], cwd=tmp_path, env=environment, check=True)
    model, variables, _ = lenet
    here = export(model, jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.5), variables), (32, 32, 1))
    assert (tmp_path / "net.zip").read_bytes() == here
    about, program = members(here)
    assert about["model"] == "lenet5"
    for text in (str(ROOT), str(tmp_path), ".py", "site-packages"):
        assert text.encode() not in program, text


def test_exporting_leaves_jaxs_settings_as_they_were(lenet):
    before = jax.config.jax_traceback_in_locations_limit
    model, variables, _ = lenet
    export(model, variables, (32, 32, 1), platforms=("cpu",))
    assert jax.config.jax_traceback_in_locations_limit == before > 0


def test_a_program_shows_itself_in_one_line(lenet, tmp_path):
    exported, _ = load_exported(write(tmp_path / "file.zip", lenet[2]))
    shown = repr(exported)
    assert shown.startswith("Program(float32[b,32,32,1] -> float32[b,10], for cpu, cuda, rocm, tpu, ")
    assert len(shown) < 200


def test_files_of_another_kind_damaged_or_for_other_platforms_are_refused(lenet, tmp_path):
    model, variables, content = lenet
    place = len(content) // 2
    damaged = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("about.json", bytes(2**20))
    for wrong in (b"", b"no archive", content[:-100], damaged, empty.getvalue(), packed.getvalue()):
        with pytest.raises(ValueError, match=r"file\.zip is no exported model, or is damaged"):
            load_exported(write(tmp_path / "file.zip", wrong))
    with pytest.raises(FileNotFoundError):
        load_exported(tmp_path / "nothing.zip")
    path = write(tmp_path / "tpu.zip", export(model, variables, (32, 32, 1), platforms=("tpu", "cuda")))
    with pytest.raises(ValueError, match="exported for tpu, cuda, and jax computes on cpu here"):
        load_exported(path)


@pytest.mark.parametrize(
    "about",
    [
        "[]",
        "3",
        '"text"',
        "{}",
        '{"calling_convention": null, "jax": 1}',
        '{"calling_convention": 1e999, "jax": 1}',
        "[" * 99_999,
    ],
    ids=range(7),
)
def test_a_file_that_says_odd_things_of_itself_is_refused(tmp_path, about):
    with zipfile.ZipFile(tmp_path / "file.zip", "w") as file:
        file.writestr("about.json", about)
        file.writestr("program", b"")
    with pytest.raises(ValueError, match=r"file\.zip is no exported model, or is damaged"):
        load_exported(tmp_path / "file.zip")


def test_the_extra_is_named(monkeypatch, lenet):
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    with pytest.raises(ImportError, match=r"extra \"export\": pip install \"cnnjax\[export\]\""):
        export(*lenet[:2], (32, 32, 1))
