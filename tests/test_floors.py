"""The import arrows: every room imports only rooms below its own, and some imports are barred."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "cnnjax"
FLOORS = {
    "settings": 0,
    "cache": 0,
    "functional": 0,
    "image_size": 0,
    "view": 0,
    "layers": 1,
    "models": 2,
    "data": 2,
    "tasks": 3,
    "train": 4,
    "analysis": 4,
    "report": 5,
    "experiment": 6,
    "cli": 7,
}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imports(path):
    """Full dotted names of everything a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def test_every_room_has_a_floor_and_something_in_it():
    assert {room(path) for path in MODULES} == FLOORS.keys()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path):
    here = room(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "cnnjax":
            assert parts[0] not in ("experiments", "tests", "tensorflow", "torch", "absl") or (
                # grain logs through absl while it is imported.
                path.name == "pipeline.py" and parts[0] == "absl"
            ), f"{path}: imports {name}"
            continue
        assert parts == ["cnnjax"] or parts[1] == here or FLOORS[parts[1]] < FLOORS[here], f"{here} imports {name}"


@pytest.mark.parametrize("path", [path for path in MODULES if room(path) == "functional"], ids=lambda path: path.name)
def test_functional_needs_jax_and_numpy_only(path):
    # The losses are Optax's where it has them.
    optax = {"optax"} if path.parent.name == "losses" else set()
    allowed = optax | {
        "jax",
        "numpy",
        "jaxtyping",
        "cnnjax",
        "math",
        "collections",
        "typing",
        "dataclasses",
        "functools",
        "itertools",
        "operator",
        # For the calls of oneDNN: their configuration, a switch, and a note of why they are not used.
        "jaxlib",
        "json",
        "logging",
        "os",
        "threading",
        "warnings",
    }
    assert {name.split(".")[0] for name in imports(path)} <= allowed


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_flax_stays_where_modules_are(path):
    if any(name.split(".")[0] == "flax" for name in imports(path)):
        assert room(path) in ("layers", "models") or path.relative_to(PACKAGE).as_posix() == "train/state.py"


def test_train_knows_no_task():
    for path in (path for path in MODULES if room(path) == "train"):
        # What every task is, and what it gives.
        of_all = tuple(f"cnnjax.tasks.{name}" for name in ("Task", "Mean", "Metric", "merge"))
        found = [name for name in imports(path) if name.startswith("cnnjax.tasks") and name not in of_all]
        assert not found, f"{path}: {found}"
