"""Models as one file that needs neither Flax nor this package: StableHLO with the variables inside, for any batch size.

The file is a ZIP archive: `program`, as `jax.export` writes it, and `about.json`, which says what made it, what it
takes, and the SHA-256 of the program. It holds no path of its maker's machine: equal variables, models and versions
give equal bytes everywhere. A program is code that runs where it is called, so that only files of a source that you
trust should be loaded. It is served by

    import zipfile
    from jax import export

    program = export.deserialize(bytearray(zipfile.ZipFile("digits.zip").read("program")))
    logits = program.call(pictures)
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
from jax.typing import DTypeLike

from cnnjax.models.initialization import check_inputs, inference_options
from cnnjax.models.parts.detector import Detecting, Detector
from cnnjax.models.registry import Model, name_of

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")

_PROGRAM, _ABOUT = "program", "about.json"

# What a ZIP archive says of the time of its members: the earliest there is, for equal bytes at any time.
_NO_TIME = (1980, 1, 1, 0, 0, 0)

# What reading an archive and its JSON may raise: RuntimeError asks for a password, or for less nesting.
_DAMAGE = (zipfile.BadZipFile, EOFError, LookupError, TypeError, ValueError, ArithmeticError, RuntimeError)


class Program(jax.export.Exported):
    """An exported program, which shows itself in one line instead of with all of its bytes."""

    def __repr__(self) -> str:
        takes, gives = (", ".join(map(str, avals)) for avals in (self.in_avals, self.out_avals))
        return (
            f"Program({takes} -> {gives}, for {', '.join(self.platforms)}, {len(self.mlir_module_serialized):,} bytes)"
        )


def export(
    model: Model,
    variables: Any,
    shape: Sequence[int | str | None],
    *,
    dtype: DTypeLike = jnp.float32,
    prepare: Callable[[jax.Array], Any] | None = None,
    platforms: Sequence[str] = PLATFORMS,
    record: Mapping[str, Any] | None = None,
) -> bytes:
    """The bytes of a file that computes what `model.apply(variables, inputs)` does at inference.

    Of a detector it gives the detections, after suppression, as a dictionary: boxes, scores, classes, present, masks.

    Args:
        model: what is exported.
        variables: what `model.apply` takes; they become constants of the program, up to 2 GiB.
        shape: of the inputs, without their batch axis, or with one: a number fixes the size of the batch, None or a
            name such as "b" leaves it open, as it is where `shape` has no such axis.
        dtype: of the inputs.
        prepare: what happens to them before the model sees them, such as a standardisation; nothing where None.
        platforms: on which the program will run, of those that `jax.export` knows.
        record: plain values that go into `about.json`, such as the names of the classes.

    Raises:
        ValueError: the inputs do not fit the model, the variables are not those of the model, a platform is unknown, or
            the model takes more than pictures.
        ImportError: the extra `export` is not installed.
    """
    _require_flatbuffers()
    for platform in platforms:
        if platform not in PLATFORMS:
            raise ValueError(f"platform {platform!r} is unknown; expected some of {', '.join(PLATFORMS)}")
    if isinstance(model, Detector) and not model.proposes:
        raise ValueError(
            f"{type(model).__name__} takes proposals beside its pictures, and a program takes pictures alone; export a"
            " detector that proposes by itself, such as faster_rcnn_vgg16, or predict by load_run(...).predict"
        )
    sizes = _with_batch(tuple(shape))
    one = jax.ShapeDtypeStruct((1, *sizes[1:]), dtype)
    ready = one if prepare is None else jax.eval_shape(prepare, one)
    check_inputs(model, ready)
    _check_variables(model, variables, ready)
    # As NumPy arrays, which belong to no device.
    constants = jax.device_get(variables)

    def infer(inputs: jax.Array) -> Any:
        inputs = inputs if prepare is None else prepare(inputs)
        output = model.apply(constants, inputs, **inference_options(model))
        if not isinstance(output, Detecting):
            return output
        return {name: array for name, array in output.detections()._asdict().items() if array is not None}

    inputs = jax.ShapeDtypeStruct(jax.export.symbolic_shape(", ".join(map(str, sizes))), dtype)
    with _no_paths_in_locations():
        exported = jax.export.export(jax.jit(infer), platforms=tuple(platforms))(inputs)
    program = bytes(exported.serialize())
    about = {
        "model": name_of(model),
        "shape": _plain_shape(inputs.shape),
        "dtype": jnp.dtype(dtype).name,
        "platforms": list(platforms),
        "jax": jax.__version__,
        "calling_convention": exported.calling_convention_version,
        **(record or {}),
        "sha256": hashlib.sha256(program).hexdigest(),
    }
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name, content in ((_ABOUT, (json.dumps(about, indent=2) + "\n").encode()), (_PROGRAM, program)):
            member = zipfile.ZipInfo(name, _NO_TIME)
            member.create_system = 3  # what is written elsewhere than on Unix says so otherwise
            file.writestr(member, content)
    return archive.getvalue()


def load_exported(path: Path | str) -> tuple[Program, dict[str, Any]]:
    """The program of an exported file, for `program.call(inputs)`, and what the file says of itself.

    Beyond what the loader in this module's docstring does, the file is checked first: its checksums, before anything of
    the program is read; that this JAX can run it; that it was made for the platform that JAX computes on by default;
    and that what the file says of the program is so. None of this makes a file of unknown origin safe: whoever changes
    the program can write its checksum too.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no exported model, is damaged, is of a version that this JAX cannot read (the message
            names the versions, the limits and the cure), was made for other platforms, or tells of another program.
        ImportError: the extra `export` is not installed.
    """
    _require_flatbuffers()
    about, program = _read(path)
    found, maker = about["calling_convention"], about["jax"]
    least = jax.export.minimum_supported_calling_convention_version
    most = jax.export.maximum_supported_calling_convention_version
    versions = (
        f"{path} was exported by jax {maker} with calling convention {found}; jax {jax.__version__} here supports"
        f" {least} to {most}"
    )
    cure = f"export the model again with this jax, or install jax {maker}"
    if not least <= found <= most:
        raise ValueError(f"{versions}: {cure}")
    try:
        exported = jax.export.deserialize(bytearray(program))
    except Exception as error:  # whatever reading an unknown layout leads to
        raise ValueError(f"{versions}, but cannot read it ({_first_line(error)}): {cure}") from error
    _check_about(path, about, exported)
    if (platform := jax.export.default_export_platform()) not in exported.platforms:
        raise ValueError(
            f"{path} was exported for {', '.join(exported.platforms)}, and jax computes on {platform} here; export it"
            f" for {platform} too, or choose another by JAX_PLATFORMS"
        )
    (inputs,) = exported.in_avals
    one = jax.ShapeDtypeStruct(
        (inputs.shape[0] if isinstance(inputs.shape[0], int) else 1, *inputs.shape[1:]), inputs.dtype
    )
    try:
        # The operations, which have versions of their own, are read only now.
        jax.jit(exported.call).lower(one)
    except Exception as error:
        raise ValueError(f"{versions}, but not its operations ({_first_line(error)}): {cure}") from error
    return Program(**{field.name: getattr(exported, field.name) for field in fields(exported)}), about


def _read(path: Path | str) -> tuple[dict[str, Any], bytes]:
    """What a file says of its program, and the program, whose SHA-256 is the one that is said."""
    try:
        with zipfile.ZipFile(path) as file:
            # What is written is not compressed, so that no member is larger than the file.
            for member in (file.getinfo(_ABOUT), file.getinfo(_PROGRAM)):
                if member.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"{member.filename} is compressed, which it never is when it is written")
            about, program = json.loads(file.read(_ABOUT)), file.read(_PROGRAM)
        about = {**about, "calling_convention": int(about["calling_convention"]), "jax": str(about["jax"])}
        if (digest := hashlib.sha256(program).hexdigest()) != about["sha256"]:
            raise ValueError(f"the SHA-256 of the program is {digest}, and {_ABOUT} says {about['sha256']}")
    except _DAMAGE as error:
        raise ValueError(f"{path} is no exported model, or is damaged ({error}); export it again") from None
    return about, program


def _check_about(path: Path | str, about: Mapping[str, Any], exported: jax.export.Exported) -> None:
    """That a file tells of the program that is in it."""
    (inputs,), outputs = exported.in_avals, exported.out_avals
    known = {
        "shape": _plain_shape(inputs.shape),
        "dtype": jnp.dtype(inputs.dtype).name,
        "platforms": list(exported.platforms),
        "calling_convention": exported.calling_convention_version,
    }
    wrong = [
        f"{name} is {about.get(name)}, and {value} in the program"
        for name, value in known.items()
        if about.get(name) != value
    ]
    classes = about.get("classes")
    if isinstance(classes, list) and len(outputs) == 1 and outputs[0].shape[-1] != len(classes):
        wrong.append(f"there are {len(classes)} classes, and {outputs[0].shape[-1]} logits in the program")
    if wrong:
        raise ValueError(f"{path}: {_ABOUT} tells of another program ({'; '.join(wrong)}); export it again")


def _plain_shape(shape: Sequence[Any]) -> list[int | str]:
    return [size if isinstance(size, int) else str(size) for size in shape]


@contextmanager
def _no_paths_in_locations() -> Generator[None, None, None]:
    """Programs that are lowered inside tell of an operation which layer it is in, and not the file and line."""
    before = jax.config.jax_traceback_in_locations_limit
    jax.config.update("jax_traceback_in_locations_limit", 0)
    try:
        yield
    finally:
        jax.config.update("jax_traceback_in_locations_limit", before)


def _with_batch(shape: tuple[int | str | None, ...]) -> tuple[int | str, ...]:
    """Sizes of all axes, the batch's first: a number, or the name of one that is left open."""
    batch, *rest = shape if len(shape) == 4 or not all(isinstance(size, int) for size in shape) else (None, *shape)
    batch = "b" if batch is None else batch
    named = isinstance(batch, str) and batch.isidentifier()
    if not rest or not all(isinstance(size, int) and size > 0 for size in [*rest, *([] if named else [batch])]):
        raise ValueError(
            f"shape={shape}; expected (height, width, channels), or with the batch before them as a number, None or a"
            f" name"
        )
    return batch, *(int(size) for size in rest if size is not None)


def _check_variables(model: Model, variables: Any, inputs: Any) -> None:
    def init(inputs: Any) -> Any:
        return dict(model.init(jax.random.key(0), inputs, **inference_options(model)))

    expected, found = (
        {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (jax.eval_shape(init, inputs), dict(variables))
    )
    differing = [name for name in [*expected, *found] if expected.get(name) != found.get(name)]
    if differing:
        name = differing[0]
        raise ValueError(
            f"variables are not those of {type(model).__name__} for inputs of shape {inputs.shape}: {name} should be"
            f" {expected.get(name, 'left out')}, and is {found.get(name, 'missing')}, first of {len(set(differing))}"
            f" that differ (a model that scans takes its blocks stacked, see models.stack)"
        )


def _require_flatbuffers() -> None:
    try:
        import flatbuffers  # noqa: F401
    except ImportError:
        raise ImportError(
            'jax.export writes and reads files by the extra "export": pip install "cnnjax[export]"'
        ) from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
