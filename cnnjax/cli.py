"""The `cnnjax` command: parses, calls, prints. JAX is imported only once a command runs."""

import dataclasses
import os
import sys
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import tyro

import cnnjax
from cnnjax.train.config import Experiment


def train(experiment: Annotated[Experiment, tyro.conf.arg(name="")]) -> None:
    """Train a model on labelled pictures, test it, analyse it, and write one folder with a page."""
    from cnnjax.experiment import run

    print(_outcome(run(experiment)))


def analyze(
    model: tyro.conf.Positional[str],
    image_size: int | None = None,
    channels: int | None = None,
    gates: bool = False,
    save: Path | None = None,
) -> None:
    """Print shapes, parameters, multiply-accumulates and receptive fields of a model's layers, for one picture.

    Args:
        model: name of a registered model; `cnnjax models` lists them.
        image_size: side of the square picture; the paper's where left out.
        channels: channels of the picture; the paper's where left out.
        gates: count what is seen through squeeze-and-excitation gates, which is the whole picture.
        save: folder to write the table to, as CSV and JSON, with a picture of it.
    """
    import jax
    import jax.numpy as jnp

    from cnnjax import analysis, models

    built = models.create(model)
    height, width, depth = models.image_shape(model)
    for name, value in (("image_size", image_size), ("channels", channels)):
        if value is not None and value < 1:
            raise ValueError(f"{name}={value}; expected a number above 0")
    shape = (1, image_size or height, image_size or width, channels or depth)
    models.check_inputs(built, jax.ShapeDtypeStruct(shape, jnp.float32))
    summary = analysis.summary(built, shape, gates=gates)
    print(f"{model} on one picture of {'x'.join(map(str, shape[1:]))}\n\n{summary}")
    if save is not None:
        summary.save(save / f"{model}_layers")
        print(f"\nwritten to {save / f'{model}_layers'}.csv, .json and .png")


def export(
    run_dir: tyro.conf.Positional[Path], out: Path, step: int | None = None, image_size: int | None = None
) -> None:
    """Write the network of a run as one file that needs neither Flax nor this package.

    Args:
        run_dir: the folder of the run.
        out: the file to write, a ZIP archive.
        step: of the checkpoint; the latest where left out.
        image_size: side of the pictures; the run's where left out, or else that of the model's paper.
    """
    from cnnjax.experiment import export_run

    content = export_run(run_dir, step=step, image_size=image_size)
    out.write_bytes(content)
    print(f"written to {out}, {len(content):,} bytes; README, serving, says how it is read")


def list_models(pattern: tyro.conf.Positional[str] = "*") -> None:
    """List the registered models.

    Args:
        pattern: shell pattern of names, such as 'resnet*'.
    """
    import jax
    import jax.numpy as jnp

    from cnnjax import models
    from cnnjax.analysis.counting import multiply_accumulates
    from cnnjax.analysis.tracing import trace

    names = models.names(pattern)
    if not names:
        raise ValueError(f"no model matches {pattern!r}; there are {', '.join(models.names())}")
    print(f"{'model':<18}  {'picture':<9}  {'parameters':>11}  {'MACs':>14}")
    for name in names:
        scan = {"scan": True} if "scan" in models.options_of(name) else {}  # the same counts, sooner
        built, shape = models.create(name, **scan), (1, *models.image_shape(name))
        variables = jax.eval_shape(built.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
        params = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        macs = sum(multiply_accumulates(trace(built, shape)))
        print(f"{name:<18}  {'x'.join(map(str, shape[1:])):<9}  {params:>11,}  {macs:>14,}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the `cnnjax` command."""
    if list(sys.argv[1:] if arguments is None else arguments) == ["--version"]:
        print(f"cnnjax {cnnjax.__version__}")
        return
    commands: dict[str, Callable[..., Any]] = {
        "train": train,
        "analyze": analyze,
        "export": export,
        "models": list_models,
    }
    with one_line_errors():
        tyro.extras.subcommand_cli_from_dict(
            commands, prog="cnnjax", description="Train and analyse convolutional networks on JAX.", args=arguments
        )


def experiment_main(
    default: Experiment, results: Path, arguments: Sequence[str] | None = None, **variants: Experiment
) -> None:
    """Command line of an experiment script: its settings as options, and `--seeds N` to measure.

    A variant is asked for by its name, as the first argument. With several seeds, the accuracies, their mean and
    deviation go to `results` (JSON; a variant's name is appended), and the first run's picture of receptive fields
    beside it. `--run-dir FOLDER` then holds a folder for each seed, and `--resume` goes on where they were interrupted.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments and arguments[0] in variants:
        variant = arguments.pop(0)
        default, results = variants[variant], results.with_stem(f"{results.stem}_{variant}")
    named = f" Or one of the variants, as the first argument: {', '.join(variants)}." if variants else ""

    def measure(experiment: Annotated[Experiment, tyro.conf.arg(name="")] = default, seeds: int = 1) -> None:
        """Train, test, analyse, and write one folder with a page.

        Args:
            experiment: the settings of the run.
            seeds: number of runs, from --seed on; more than one also writes the results file.
        """
        if seeds < 1:
            raise ValueError(f"seeds={seeds}; expected a number above 0")
        from cnnjax.experiment import run, write_seeds

        outcomes = []
        for seed in range(experiment.seed, experiment.seed + seeds):
            of_seed = dataclasses.replace(experiment, seed=seed)
            if seeds > 1 and experiment.run_dir is not None:
                folder = experiment.run_dir / f"seed-{seed}"
                of_seed = dataclasses.replace(of_seed, run_dir=folder, resume=experiment.resume and folder.exists())
            outcomes.append(run(of_seed))
            print(_outcome(outcomes[-1]))
        if seeds > 1:
            print(write_seeds(results, outcomes))

    with one_line_errors():
        tyro.cli(measure, args=arguments, description=f"Train, test, analyse, and write one folder with a page.{named}")


def _outcome(outcome: Any) -> str:
    import jax

    from cnnjax.train import format_metric

    if jax.process_index() > 0:
        return f"process {jax.process_index()} is done; the first one wrote the run's folder"
    numbers = ", ".join(
        f"test {name} {format_metric(name, value)}" for name, value in outcome.fit.evaluation.summary.items()
    )
    return f"{numbers} after {outcome.fit.seconds:.1f} s\nrun folder: {outcome.fit.run_dir}\npage: {outcome.report}"


@contextmanager
def one_line_errors() -> Generator[None, None, None]:
    """Turns wrong input into one line on the error stream and exit code 2, an interruption into 130.

    An output whose reader has gone (`| head`) is exit code 141, one that fails otherwise is an error as others are.
    With CNNJAX_TRACEBACK=1 in the environment the whole traceback is shown instead.
    """
    try:
        yield
        _finish_output()
    except KeyboardInterrupt:
        _complain("\ninterrupted; a run that has begun goes on with --resume and --run-dir FOLDER")
        raise SystemExit(130) from None
    except BrokenPipeError:
        raise SystemExit(141) from None
    except (ValueError, OSError, FloatingPointError, MemoryError, ImportError) as error:
        if os.environ.get("CNNJAX_TRACEBACK"):
            raise
        _complain(f"error: {error}")
        if not _raised_here(error):
            _complain("(raised by a library; CNNJAX_TRACEBACK=1 shows where)")
        raise SystemExit(2) from None
    finally:
        _abandon_broken_outputs()


def _finish_output() -> None:
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(f"the output cannot be written ({error}); what was asked for is done") from None


def _complain(text: str) -> None:
    """A line on the error stream, if anybody reads it."""
    from cnnjax.train.output import Output

    if sys.stderr is not None:
        Output(sys.stderr).write(f"{text}\n")


def _abandon_broken_outputs() -> None:
    """Lets Python end in peace: what it still holds back for a broken output would be another error, and exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _raised_here(error: BaseException) -> bool:
    """Whether an error comes from this package's own checks, by the file of its innermost frame."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).is_relative_to(Path(__file__).parent)
