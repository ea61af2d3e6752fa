"""The commands of `cnnjax`, and the command line of an experiment's script."""

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

import cnnjax
from cnnjax.cli.elsewhere import settings_of_elsewhere
from cnnjax.cli.errors import one_line_errors
from cnnjax.cli.parsing import Parser
from cnnjax.experiment.settings import Experiment
from cnnjax.image_size import ImageSize, height_and_width, joined_sizes
from cnnjax.train.allocator import share_one_arena
from cnnjax.view.text import printable


def train(experiment: Experiment) -> None:
    """Train a model on labelled pictures, test it, analyse it, and write one folder with a page.

    With the name of a model, --help shows its options too, as --net.OPTION.
    """
    from cnnjax.experiment import run

    print(_told(run(experiment)))


def evaluate(
    run_dir: tyro.conf.Positional[Path],
    split: str | None = None,
    data: str | None = None,
    data_dir: Path | None = None,
    step: int | Literal["best"] | None = None,
    batch_size: int | None = None,
    out: Path | None = None,
) -> None:
    """Print the metrics of a run's network on a split of its data, or on other data with the same classes.

    Args:
        run_dir: the folder of the run.
        split: of the data, with an optional slice; the run's test split where left out.
        data: other data, such as folder:PATH; the run's where left out.
        data_dir: folder that holds prepared TFDS data sets, and that other relative paths start from.
        step: of the checkpoint; the latest where left out, "best" for the one of the highest score.
        batch_size: examples that are computed at once; the run's where left out.
        out: a file for the numbers, as JSON.
    """
    from cnnjax.experiment import evaluate, load_run
    from cnnjax.experiment.evaluation import as_json
    from cnnjax.train import format_metric

    _check_out(out)
    trained = load_run(run_dir, step=step)
    found = evaluate(trained, trained.open_split(split, data=data, data_dir=data_dir), batch_size=batch_size)
    numbers = ", ".join(f"{name} {format_metric(name, value)}" for name, value in found.summary.items())
    print(
        printable(f"{found.split} of {data or trained.record['sources']['test']['data']}, step {found.step}: {numbers}")
    )
    if out is not None:
        out.write_text(as_json(found), encoding="utf-8")
        print(f"written to {printable(str(out))}")


def predict(
    run_dir: tyro.conf.Positional[Path],
    pictures: tyro.conf.Positional[tuple[Path, ...]],
    out: Path | None = None,
    step: int | Literal["best"] | None = None,
    batch_size: int = 64,
) -> None:
    """Print what a run's network says of pictures: files of any size, or folders of them.

    Args:
        run_dir: the folder of the run.
        pictures: files and folders.
        out: a file for all probabilities, .csv or .json; of a run that labels pixels, a folder for label maps and
            overlays as PNG; of one that finds objects, a folder for pictures with boxes and COCO JSON, or a .json or
            .csv file.
        step: of the checkpoint; the latest where left out, "best" for the one of the highest score.
        batch_size: pictures that are computed at once.
    """
    from rich.console import Console

    from cnnjax.experiment import load_run
    from cnnjax.tasks import ObjectTask, PixelTask

    if not pictures:
        raise ValueError("no pictures came; name files or folders, as in cnnjax predict RUN PICTURE.png FOLDER")
    suffixes = (".csv", ".json")
    if out is not None and out.suffix:
        _check_out(out, suffixes=suffixes)
    trained = load_run(run_dir, step=step)
    if isinstance(trained.task, ObjectTask) and out is not None and not out.suffix:
        if out.is_file():
            raise ValueError(f"--out {out} is a file; expected a folder for pictures, or a name in .json or .csv")
    elif not isinstance(trained.task, PixelTask):
        _check_out(out, suffixes=suffixes)
    elif out is not None and (out.suffix or out.is_file()):
        raise ValueError(f"--out {out}; expected a folder, since the run labels pixels: PNG files are written there")
    found = trained.predict(pictures, batch_size=batch_size, console=Console(stderr=True))
    print(found)
    if out is not None:
        found.write(out)
        print(f"\nwritten to {printable(str(out))}")


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
    run_dir: tyro.conf.Positional[Path],
    out: Path,
    step: int | Literal["best"] | None = None,
    image_size: ImageSize = None,
) -> None:
    """Write the network of a run as one file that needs neither Flax nor this package.

    Args:
        run_dir: the folder of the run.
        out: the file to write, a ZIP archive.
        step: of the checkpoint; the latest where left out, "best" for the one of the highest score.
        image_size: one number, or height x width, of the pictures; the run's where left out.
    """
    from cnnjax.experiment import export_run

    _check_out(out)
    content = export_run(run_dir, step=step, image_size=image_size)
    out.write_bytes(content)
    print(f"written to {printable(str(out))}, {len(content):,} bytes; README, serving, says how it is read")


def list_models(pattern: tyro.conf.Positional[str] = "*") -> None:
    """List the registered models, with parameters and multiply-accumulates; of detectors boxes too, at 20 classes.

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
    wide = max(map(len, names))
    detectors = any(models.logits_of(name) in ("boxes", "instances") for name in names)
    boxes = f"  {'boxes':>6}" if detectors else ""
    print(f"{'model':<{wide}}  {'picture':<10}  {'parameters':>11}  {'MACs':>15}{boxes}")
    for name in names:
        scan = {"scan": True} if "scan" in models.options_of(name) else {}  # the same counts, sooner
        built, shape = models.create(name, **scan), (1, *models.image_shape(name))
        init = partial(built.init_with_output, **models.inference_options(built))
        output, variables = jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
        params = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        macs = sum(multiply_accumulates(trace(built, shape)))
        boxes = f"  {output.candidates:>6,}" if isinstance(output, models.Detecting) else ""
        print(f"{name:<{wide}}  {'x'.join(map(str, shape[1:])):<10}  {params:>11,}  {macs:>15,}{boxes}", flush=True)


COMMANDS: dict[str, Callable[..., Any]] = {
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "analyze": analyze,
    "export": export,
    "models": list_models,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the `cnnjax` command."""
    arguments = _arguments_of_process() if arguments is None else joined_sizes(arguments)
    if arguments == ["--version"]:
        print(f"cnnjax {cnnjax.__version__}")
        return
    with one_line_errors(), settings_of_elsewhere(arguments):
        if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
            near = get_close_matches(arguments[0], COMMANDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
            raise ValueError(f"unknown command {arguments[0]!r}; {hint}")
        commands = dict(COMMANDS)
        if arguments[:1] == ["train"]:
            commands["train"] = Parser.of(arguments[1:], Experiment()).command(train)
        tyro.extras.subcommand_cli_from_dict(
            commands, prog="cnnjax", description="Train and analyse convolutional networks on JAX.", args=arguments
        )


def experiment_main(
    default: Experiment, results: Path, arguments: Sequence[str] | None = None, **variants: Experiment
) -> None:
    """Command line of an experiment script: its settings as options, and `--seeds N` to measure.

    A variant is asked for by its name, as the first argument. With several seeds, the scores, their mean and
    deviation go to `results` (JSON; a variant's name is appended), and the first run's picture of receptive fields
    beside it. `--run-dir FOLDER` then holds a folder for each seed, and `--resume` goes on where they were interrupted.

    Args:
        default: the experiment of a command line that says nothing.
        results: where what is measured goes.
        arguments: of the command line; those of the process where None.
        **variants: other defaults by name.
    """
    arguments = _arguments_of_process() if arguments is None else joined_sizes(arguments)
    if arguments and arguments[0] in variants:
        variant = arguments.pop(0)
        default, results = variants[variant], results.with_stem(f"{results.stem}_{variant}")
    named = f" Or one of the variants, as the first argument: {', '.join(variants)}." if variants else ""

    def measure(experiment: Experiment, seeds: int) -> None:
        """Train, test, analyse, and write one folder with a page."""
        _measure(experiment, seeds, results)

    help_text = "Number of runs, from --seed on; more than one also writes the results file."
    seeds = inspect.Parameter(
        "seeds",
        inspect.Parameter.KEYWORD_ONLY,
        default=1,
        annotation=Annotated[int, tyro.conf.arg(help=help_text)],
    )
    with one_line_errors(), settings_of_elsewhere(arguments):
        command = Parser.of(arguments, default).command(measure, extra=(seeds,))
        tyro.cli(command, args=arguments, description=f"Train, test, analyse, and write one folder with a page.{named}")


def _arguments_of_process() -> list[str]:
    """The arguments that this process was started with; its runs may then keep their memory, it being nobody else's."""
    share_one_arena()
    return joined_sizes(sys.argv[1:])


def _measure(experiment: Experiment, seeds: int, results: Path) -> None:
    if seeds < 1:
        raise ValueError(f"seeds={seeds}; expected a number above 0")
    from cnnjax.experiment import run
    from cnnjax.report.seeds import write_seeds
    from cnnjax.settings import to_plain

    outcomes, first = {}, experiment.training.seed
    for seed in range(first, first + seeds):
        of_seed = experiment.with_training(seed=seed)
        given, parent = experiment.training.folder, experiment.training.folder.run_dir
        if seeds > 1 and parent is not None:
            path = parent / f"seed-{seed}"
            of_seed = of_seed.with_training(folder=replace(given, run_dir=path, resume=given.resume and path.exists()))
        outcomes[seed] = run(of_seed)
        print(_told(outcomes[seed]))
    if seeds > 1:
        trained = {seed: outcome.training for seed, outcome in outcomes.items()}
        chosen = outcomes[first]
        told = write_seeds(results, trained, headline=chosen.task.headline, settings=to_plain(chosen.experiment))
        print(printable(told))


def _check_out(out: Path | None, *, suffixes: tuple[str, ...] = ()) -> None:
    """Says before the work is done that its result could not be written."""
    if out is None:
        return
    if not out.parent.is_dir():
        raise FileNotFoundError(f"out={out}, but there is no folder {out.parent}; make it, or choose another --out")
    if out.is_dir():
        raise IsADirectoryError(f"out={out} is a folder; expected the name of a file, such as {out / 'result'}")
    if suffixes and out.suffix not in suffixes:
        raise ValueError(f"out={out}; expected a name that ends in {' or '.join(suffixes)}")


def _told(outcome: Any) -> str:
    import jax

    from cnnjax.train import format_metric

    if jax.process_index() > 0:
        return f"process {jax.process_index()} is done; the first one wrote the run's folder"
    result = outcome.training
    found = result.evaluation
    numbers = ", ".join(f"{found.split} {name} {format_metric(name, value)}" for name, value in found.summary.items())
    folder, page = printable(str(result.run_dir)), printable(str(outcome.report))
    chosen = ""
    if result.best_step is not None and result.chosen_on == found.split:
        chosen = f"best checkpoint: step {result.best_step}, chosen on the {found.split} split\n"
    elif result.best_step is not None:
        chosen = f"of step {found.step}, the best on the {result.chosen_on} split\n"
    return (
        f"{numbers} after {result.seconds:.1f} s\n{printable(chosen, keep=chr(10))}run folder: {folder}\npage: {page}"
    )
