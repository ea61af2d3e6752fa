"""The `cnnjax` command: parses, calls, prints. JAX is imported only once a command runs."""

import dataclasses
import os
import sys
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import tyro

import cnnjax
from cnnjax.image_size import ImageSize, height_and_width, joined_sizes
from cnnjax.train.config import Experiment
from cnnjax.view.text import escape_unencodable, printable

# What settings are called elsewhere, by what they are called here.
_ELSEWHERE = {
    "--optimizer.learning-rate": "lr learning-rate base-lr",
    "--optimizer.name": "opt optim optimizer",
    "--optimizer.weight-decay": "wd weight-decay l2",
    "--optimizer.momentum": "beta1",
    "--optimizer.clip-norm": "clip-grad grad-clip clip-grad-norm gradient-clip-val max-grad-norm",
    "--schedule.name": "sched scheduler schedule lr-scheduler lr-schedule",
    "--schedule.warmup": "warmup warmup-ratio warmup-epochs warmup-steps",
    "--batch-size": "bs b batch train-batch-size",
    "--epochs": "n-epochs num-epochs max-epochs",
    "--steps": "iters iterations max-steps num-steps",
    "--loading.workers": "num-workers j",
    "--augmentation.flip": "hflip",
    "--label-smoothing": "smoothing ls",
    "--stochastic-depth": "drop-path drop-path-rate",
    "--image-size": "size img-size imgsz input-size resolution",
    "--data": "dataset data-path",
    "--data-dir": "data-root root",
    "--precision": "amp fp16 bf16 half dtype mixed-precision",
    "--average": "ema model-ema ema-decay",
    "--accumulate": "accum accumulation grad-accum gradient-accumulation-steps accumulate-grad-batches",
    "--devices": "gpu gpus num-gpus device",
    "--run-dir": "output output-dir save-dir logdir log-dir",
    "--saving.every": "save-every save-freq checkpoint-every",
    "--log-every": "log-freq log-interval print-freq",
    "the model's name alone, as in `cnnjax train resnet20`": "model arch net network",
}
_HERE = {f"-{'-' * (len(name) > 1)}{name}": here for here, names in _ELSEWHERE.items() for name in names.split()}


def train(experiment: Annotated[Experiment, tyro.conf.arg(name="")]) -> None:
    """Train a model on labelled pictures, test it, analyse it, and write one folder with a page."""
    from cnnjax.experiment import run

    print(_outcome(run(experiment)))


def analyze(
    model: tyro.conf.Positional[str],
    image_size: ImageSize = None,
    channels: int | None = None,
    gates: bool = False,
    save: Path | None = None,
) -> None:
    """Print shapes, parameters, multiply-accumulates and receptive fields of a model's layers, for one picture.

    Args:
        model: name of a registered model; `cnnjax models` lists them.
        image_size: one number, or height x width, of the picture; the paper's where left out.
        channels: channels of the picture; the paper's where left out.
        gates: count what is seen through squeeze-and-excitation gates, which is the whole picture.
        save: folder to write the table to, as CSV and JSON, with a picture of it.
    """
    import jax
    import jax.numpy as jnp

    from cnnjax import analysis, models

    built = models.create(model)
    height, width, depth = models.image_shape(model)
    if channels is not None and channels < 1:
        raise ValueError(f"channels={channels}; expected a number above 0")
    shape = (1, *(height_and_width(image_size) or (height, width)), channels or depth)
    models.check_inputs(built, jax.ShapeDtypeStruct(shape, jnp.float32))
    summary = analysis.summary(built, shape, gates=gates)
    print(f"{model} on one picture of {'x'.join(map(str, shape[1:]))}\n\n{summary}")
    if save is not None:
        summary.save(save / f"{model}_layers")
        print(f"\nwritten to {save / f'{model}_layers'}.csv, .json and .png")


def export(
    run_dir: tyro.conf.Positional[Path], out: Path, step: int | None = None, image_size: ImageSize = None
) -> None:
    """Write the network of a run as one file that needs neither Flax nor this package.

    Args:
        run_dir: the folder of the run.
        out: the file to write, a ZIP archive.
        step: of the checkpoint; the latest where left out.
        image_size: one number, or height x width, of the pictures; the run's where left out.
    """
    from cnnjax.experiment import export_run

    # Said before the work is done.
    if not out.parent.is_dir():
        raise FileNotFoundError(f"out={out}, but there is no folder {out.parent}; make it, or choose another --out")
    if out.is_dir():
        raise IsADirectoryError(f"out={out} is a folder; expected the name of a file, such as {out / 'net.zip'}")
    content = export_run(run_dir, step=step, image_size=image_size)
    out.write_bytes(content)
    print(f"written to {printable(str(out))}, {len(content):,} bytes; README, serving, says how it is read")


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
    arguments = joined_sizes(sys.argv[1:] if arguments is None else arguments)
    if arguments == ["--version"]:
        print(f"cnnjax {cnnjax.__version__}")
        return
    commands: dict[str, Callable[..., Any]] = {
        "train": train,
        "analyze": analyze,
        "export": export,
        "models": list_models,
    }
    with one_line_errors(), _settings_of_elsewhere(arguments):
        if arguments and not arguments[0].startswith("-") and arguments[0] not in commands:
            near = get_close_matches(arguments[0], commands, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(commands)}"
            raise ValueError(f"unknown command {arguments[0]!r}; {hint}")
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
    arguments = joined_sizes(sys.argv[1:] if arguments is None else arguments)
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
            print(printable(write_seeds(results, outcomes)))

    with one_line_errors(), _settings_of_elsewhere(arguments):
        tyro.cli(measure, args=arguments, description=f"Train, test, analyse, and write one folder with a page.{named}")


def _outcome(outcome: Any) -> str:
    import jax

    from cnnjax.train import format_metric

    if jax.process_index() > 0:
        return f"process {jax.process_index()} is done; the first one wrote the run's folder"
    numbers = ", ".join(
        f"test {name} {format_metric(name, value)}" for name, value in outcome.fit.evaluation.summary.items()
    )
    folder, page = printable(str(outcome.fit.run_dir)), printable(str(outcome.report))
    return f"{numbers} after {outcome.fit.seconds:.1f} s\nrun folder: {folder}\npage: {page}"


@contextmanager
def _settings_of_elsewhere(arguments: Sequence[str]) -> Generator[None, None, None]:
    """Names the setting that is meant, where arguments are refused that other programs have, such as --lr."""
    try:
        yield
    except SystemExit as refused:
        if refused.code == 2:
            for option in dict.fromkeys(argument.partition("=")[0].replace("_", "-") for argument in arguments):
                if option in _HERE:
                    print(f"error: there is no {option}; did you mean {_HERE[option]}?", file=sys.stderr)
        raise


@contextmanager
def one_line_errors() -> Generator[None, None, None]:
    """Turns wrong input into one line on the error stream and exit code 2, an interruption into 130.

    An output whose reader has gone (`| head`) is exit code 141, one that fails otherwise is an error as others are.
    With CNNJAX_TRACEBACK=1 in the environment the whole traceback is shown instead. Characters that steer the terminal,
    or that its encoding lacks, are written as escapes.
    """
    escape_unencodable()
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
        _complain(f"error: {printable(str(error))}")
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
