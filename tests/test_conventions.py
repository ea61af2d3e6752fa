"""The habits: no catch-all rooms, short modules, documented public names, tests where the code is."""

import ast
import os
import re
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Files of an experiment that are no scripts: the sides of a comparison.
PARTS = (
    *("dense_jax_side", "flax_nets", "jax_side", "torch_boxes", "torch_dense", "torch_side", "torch_ssd"),
    "torch_unet",
)
MODULES = sorted((ROOT / "cnnjax").rglob("*.py"))
SCRIPTS = sorted(path for path in (ROOT / "experiments").rglob("*.py") if path.stem not in PARTS)

# Modules whose tests are those of the module they serve.
COVERED_BY = {
    **{
        f"models/{module}.py": "models/test_all_models.py"
        for module in (
            "alexnet convnet densenet inception inception_v3 mobilenet preact_resnet resnet resnet9 senet vgg"
            " zfnet".split()
        )
    },
    **dict.fromkeys(
        [f"analysis/reach/{module}.py" for module in ("intervals", "placement", "rearranging", "sliding", "case")],
        "analysis/reach/test_rules.py",
    ),
    **dict.fromkeys(
        [f"functional/cpu/{module}.py" for module in ("arrays", "convolutions", "matrices", "pieces", "shifts")],
        "functional/cpu/test_choice.py",
    ),
    "models/parts/auxiliary.py": "tasks/test_heads.py",
    "models/parts/layouts.py": "models/test_ssd.py",
    "models/parts/given_proposals.py": "models/test_fast_rcnn.py",
    "models/parts/one_map.py": "models/test_fast_rcnn.py",
    "models/parts/units.py": "models/test_all_models.py",
    "models/parts/trunk.py": "models/test_hed.py",
    "models/parts/residual.py": "models/test_stochastic_depth.py",
    "analysis/tracing.py": "analysis/test_program.py",
    "train/recipe.py": "train/test_step.py",
    "train/evaluation.py": "train/test_loop.py",
}


def identify(path):
    return str(path.relative_to(ROOT))


def test_the_top_level_is_the_owners():
    allowed = {"pyproject.toml", "cnnjax", "experiments", "tests", "notebooks", "README.md", "LICENSE", "runs"}
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert found <= allowed | {"build", "dist"}


@pytest.mark.parametrize("path", MODULES, ids=identify)
def test_modules_are_rooms(path):
    assert path.stem not in ("utils", "util", "helpers", "helper", "common", "misc")
    lines = path.read_text().splitlines()
    assert len(lines) <= 400, f"{path}: {len(lines)} lines; a split is due"


@pytest.mark.parametrize("path", MODULES, ids=identify)
def test_functions_take_a_key_first(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            names = [argument.arg for argument in node.args.args if argument.arg != "self"]
            assert "key" not in names[1:], f"{path}:{node.lineno}: {node.name} takes key at place {names.index('key')}"


@pytest.mark.parametrize("path", SCRIPTS, ids=identify)
def test_experiments_say_claim_command_and_expectation(path):
    header = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert "Claim:" in header
    assert f"python {path.relative_to(ROOT)}" in header
    assert re.search(r"Expected:.*\d", header, flags=re.DOTALL), f"{path}: no number is expected"
    assert "EXPECTED" not in header, f"{path}: what is expected is not filled in"


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.name != "__init__.py" and path.parent.name != "cnnjax"], ids=identify
)
def test_tests_mirror_the_package(path):
    module = path.relative_to(ROOT / "cnnjax")
    test = COVERED_BY.get(module.as_posix(), (module.parent / f"test_{module.name}").as_posix())
    assert (ROOT / "tests" / test).is_file(), f"nothing tests {module}; expected tests/{test}"


def test_what_tests_put_aside_lies_in_a_folder_that_goes_with_them(tmp_path):
    """Also what a library or a process of its own makes, and what pytest keeps of earlier runs."""
    own = Path(tempfile.gettempdir())
    assert own.name.startswith("cnnjax-tests-")
    assert os.environ["TMPDIR"] == str(own)
    assert tmp_path.is_relative_to(own.resolve()) or tmp_path.is_relative_to(own.parent.resolve())


def test_modules_covered_by_other_tests_exist():
    for module in COVERED_BY:
        assert (ROOT / "cnnjax" / module).is_file()
