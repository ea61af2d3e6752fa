"""The package's own face: cheap to import, its rooms on demand, the README's quickstart, jax's known miscompiles."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cnnjax

ROOT = Path(__file__).parent.parent


def modules_after(code):
    """Names of all modules that a fresh Python holds after running some code."""
    listing = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_imports_nothing_heavy():
    heavy = {"jax", "flax", "optax", "orbax", "grain", "matplotlib", "sklearn", "tensorflow_datasets", "tyro"}
    assert not heavy & modules_after("import cnnjax")


def test_the_command_line_and_settings_import_no_jax_before_a_command_runs():
    heavy = {"jax", "flax", "optax", "orbax", "grain", "matplotlib", "sklearn"}
    # What these modules offer is used too, as the help of a command does.
    code = "import cnnjax.cli; from cnnjax import Experiment, TaggingSettings, Training; Experiment(); Training()"
    assert not heavy & modules_after(code)


# Rooms whose names are imported when they are first used; what they offer stands in a stub, for editors and checkers.
FACES = ["cnnjax", "cnnjax.experiment", "cnnjax.tasks", "cnnjax.tasks.metrics", "cnnjax.train", "cnnjax.view"]


@pytest.mark.parametrize("face", FACES)
def test_a_face_offers_what_its_stub_says(face):
    module = importlib.import_module(face)
    stub = ast.parse((ROOT / face.replace(".", "/") / "__init__.pyi").read_text())
    imported = [
        alias.asname or alias.name for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    assert sorted(imported) == sorted(module.__all__)
    assert {*module.__all__} <= {*dir(module)}
    for name in module.__all__:
        assert getattr(module, name) is not None, name
    with pytest.raises(AttributeError, match="nothing"):
        _ = module.nothing


def test_every_stub_is_that_of_a_face():
    found = {path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in (ROOT / "cnnjax").rglob("*.pyi")}
    assert found == {*FACES}


def test_names_of_the_top_are_those_of_their_rooms():
    assert cnnjax.models.names("lenet5") == ("lenet5",)
    assert cnnjax.Training is cnnjax.settings.Training
    assert cnnjax.fit is cnnjax.experiment.fit
    assert cnnjax.fit is not cnnjax.train.fit  # which writes no page
    assert cnnjax.experiment.Trained is importlib.import_module("cnnjax.experiment.trained").Trained


def test_the_readmes_operations_are_of_the_shapes_it_says():
    text = (ROOT / "README.md").read_text()
    (code,) = re.findall(r"```python\n(# operations\n.*?)```", text, flags=re.DOTALL)
    names: dict = {}
    claims = 0
    for line in code.splitlines():
        statement, _, comment = line.partition("  # ")
        claim = re.search(r"(\(\d[\d, ]*\)|^\d+)", comment)
        if claim is None:
            exec(statement, names)
            continue
        name, _, expression = statement.rpartition(" = ")
        names[name] = value = eval(expression, names)
        assert str(getattr(value, "shape", value)) == claim[1], line
        claims += 1
    assert claims == 6


def test_the_readmes_models_are_made():
    text = (ROOT / "README.md").read_text()
    (code,) = re.findall(r"```python\n(# models\n.*?)```", text, flags=re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert names["logits"].shape == (2, 10)
    assert {name: value.shape for name, value in names["maps"].items()} == {
        "stage1": (2, 32, 32, 16),
        "stage2": (2, 16, 16, 32),
        "stage3": (2, 8, 8, 64),
    }
    claimed = re.search(r"lists all (\d+) with", code)
    assert claimed is not None
    assert int(claimed[1]) == len(names["models"].names())


def test_the_readmes_detector_detects():
    text = (ROOT / "README.md").read_text()
    (code,) = re.findall(r"```python\n(# detector\n.*?)```", text, flags=re.DOTALL)
    names: dict = {}
    with jax.numpy_dtype_promotion("standard"):
        exec(code, names)
    assert names["found"].boxes.shape == (2, 200, 4)
    assert names["heat"].shape[0] == 2
    assert [names["fields"][f"class{number}"].stride for number in (1, 2)] == [(8, 8), (16, 16)]


def test_the_readmes_augmentation_runs():
    text = (ROOT / "README.md").read_text()
    (code,) = re.findall(r"```python\n(# augmentation\n.*?)```", text, flags=re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert names["pictures"].shape == (4, 32, 32, 3)
    assert names["boxes"].boxes.shape == (4, 1, 4)


def test_the_readmes_analysis_runs(capsys):
    text = (ROOT / "README.md").read_text()
    (code,) = re.findall(r"```python\n(# analysis\n.*?)```", text, flags=re.DOTALL)
    names: dict = {}
    with jax.numpy_dtype_promotion("standard"):
        exec(code, names)
    # By hand, of two 3x3 convolutions padded by one, each followed by a 2x2 pool: 10 pixels at stride 4 from -3 on.
    assert (names["pool"].size, names["pool"].stride, names["pool"].start) == ((10, 10), (4, 4), (-3, -3))
    assert "integrated gradients" in capsys.readouterr().out
    offered = re.search(r"\| question \| functions of `cnnjax.analysis` \|\n(.*?)\n\n", text, flags=re.DOTALL)
    assert offered is not None
    named = set(re.findall(r"`(\w+)`", offered[1]))
    assert named <= {*names["analysis"].__all__}


def test_the_readmes_quickstart_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text()
    (code,) = re.findall(r"```python\n(# quickstart\n.*?)```", text, flags=re.DOTALL)
    assert len(code.splitlines()) <= 21
    with jax.numpy_dtype_promotion("standard"):
        exec(compile(code, "README.md", "exec"), {})
    assert "c5" in capsys.readouterr().out


def test_the_readmes_own_nets_and_arrays_train(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text()
    (code,) = re.findall(r"```python\n(# own\n.*?)```", text, flags=re.DOTALL)
    names: dict = {}
    try:
        with jax.numpy_dtype_promotion("standard"):
            exec(compile(code, "README.md", "exec"), names)
    finally:
        cnnjax.models.registry._ENTRIES.pop("small", None)
    for run in ("mine", "own"):
        assert "<h1>" in (tmp_path / "runs" / run / "report.html").read_text()


def test_the_readmes_promises_are_held_by_tests_that_are_there():
    text = (ROOT / "README.md").read_text()
    promises = text[text.index("## Promises") : text.index("Where they end")]
    held = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", promises)
    assert len(held) > 20
    for path, test in held:
        assert f"def {test}" in (ROOT / "tests" / path).read_text(), path


def test_jax_39103_sum_over_rows():
    matrix = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    rows = np.random.default_rng(1).normal(size=(32769, 3)).astype(np.float32)
    found = jax.jit(jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2)))(rows)
    np.testing.assert_allclose(found, ((rows @ matrix.T) ** 2).sum(-1), rtol=1e-3)


def test_jax_40412_rank_seven_reduction():
    left = np.random.default_rng(0).normal(size=(2, 3, 2, 3, 2, 3, 4)).astype(np.float32)
    found = jax.jit(lambda x: jnp.sum(x * x, axis=(1, 3, 5)))(left)
    np.testing.assert_allclose(found, (left * left).sum((1, 3, 5)), rtol=1e-5)
