"""The settings of an experiment as a command line: with the options of its model, and the settings of its task."""

import dataclasses
import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_type_hints

import tyro

from cnnjax.experiment.settings import Experiment, read_experiment
from cnnjax.tasks.settings import TASKS

# Options of models that the data or other settings decide.
_DECIDED = ("num_classes", "dtype", "param_dtype")
_KINDS = (bool, int, float, str, int | None, float | None)

_TASK = cast("Any", Literal)[tuple(task.kind for task in TASKS)]


@dataclasses.dataclass(frozen=True)
class Parser:
    """What a command line of an experiment is made of.

    Attributes:
        default: the experiment of a command line that says nothing.
        model: whose options are shown as --net.OPTION; None where the command line names none.
    """

    default: Experiment
    model: str | None

    @classmethod
    def of(cls, arguments: Sequence[str], default: Experiment) -> "Parser":
        """What arguments ask for: --config FILE and --task NAME change the default, a model's name shows its options.

        Args:
            arguments: of the command line.
            default: the experiment without any.

        Raises:
            ValueError, OSError: the file of --config is no record of an experiment.
        """
        if (config := _value_of(arguments, "--config")) is not None:
            default = read_experiment(Path(config))
        task = _value_of(arguments, "--task")
        model = _model_in(arguments, default)
        if task is None and config is None:
            task = _task_of(model)
        chosen = next((kind for kind in TASKS if kind.kind == task), None)
        if chosen is not None and not isinstance(default.task, chosen):
            default = dataclasses.replace(default, task=chosen())
        return cls(default, model)

    def command(self, run: Callable[..., Any], *, extra: Sequence[inspect.Parameter] = ()) -> Callable[..., Any]:
        """A function for tyro whose arguments are the settings; it calls `run` with the experiment, and what is extra.

        Args:
            run: takes an `Experiment`, and the extra arguments by name.
            extra: further arguments of the command line, before all others.
        """
        default = self.default
        options = None if self.model is None else _options_class(self.model, default)
        parameters = [
            *extra,
            _parameter("experiment", _nameless(Experiment), default),
            _parameter("config", Annotated[Path | None, tyro.conf.arg(help=_CONFIG_HELP)], None),
            _parameter("task", Annotated[_TASK, tyro.conf.arg(help=_TASK_HELP)], default.task.kind),
            _parameter("task_settings", _nameless(type(default.task)), default.task),
        ]
        if options is not None:
            parameters.append(_parameter("net", options, options()))

        # A function that a checker of types has wrapped would be parsed by its own signature; a lambda never is.
        return _described(lambda **given: self._call(run, **given), parameters, run.__doc__)

    def _call(
        self, run: Callable[..., Any], experiment: Experiment, task_settings: Any, *, net: Any = None, **given: Any
    ) -> Any:
        """Calls `run` with the experiment that was parsed in parts, and with what is extra."""
        extra = {name: value for name, value in given.items() if name not in ("config", "task")}
        experiment = dataclasses.replace(experiment, task=task_settings)
        if net is not None:
            changed = {
                field.name: value
                for field in dataclasses.fields(net)
                if (value := getattr(net, field.name)) != field.default
            }
            # The options of the default are those of its own model.
            kept = experiment.net.options if experiment.net.name == self.default.net.name else {}
            chosen = dataclasses.replace(experiment.net, options={**kept, **changed})
            experiment = dataclasses.replace(experiment, net=chosen)
        return run(experiment, **extra)


def _described(function: Any, parameters: Sequence[inspect.Parameter], text: str | None) -> Callable[..., Any]:
    """A function with another signature and docstring, by which it is parsed."""
    function.__name__ = "command"  # tyro refuses lambdas by their name
    function.__signature__ = inspect.Signature(parameters)
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    function.__doc__ = text
    return function


_CONFIG_HELP = "Start from the settings of a run: its folder, or its config.json. What is given beside it changes them."
_TASK_HELP = "What the model's output means; its settings are shown by --task NAME --help."


def _nameless(kind: type) -> Any:
    """The annotation of settings whose options have no prefix."""
    return cast("Any", Annotated)[kind, tyro.conf.arg(name="")]


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _value_of(arguments: Sequence[str], option: str) -> str | None:
    """The value of an option among arguments, as "--option value" or "--option=value"."""
    for place, argument in enumerate(arguments):
        if argument == option and place + 1 < len(arguments):
            return arguments[place + 1]
        if argument.startswith(f"{option}="):
            return argument.partition("=")[2]
    return None


def _model_in(arguments: Sequence[str], default: Experiment) -> str | None:
    """The first argument that is the name of a model, or else the default's; None where nothing asks for its options.

    Models import JAX, for which the help of a command does not wait.
    """
    words = [argument for argument in arguments if not argument.startswith("-")]
    if not words and not any(argument.startswith("--net.") for argument in arguments):
        return None
    from cnnjax import models

    named = next((word for word in words if word in models.names()), default.net.name)
    return named if named in models.names() else None


def _task_of(model: str | None) -> str | None:
    """The task of a model whose outputs are of pixels or of boxes, where none is named."""
    if model is None:
        return None
    from cnnjax import models

    return {"pixels": "segmentation", "boxes": "detection", "instances": "instances"}.get(models.logits_of(model))


def _options_class(model: str, default: Experiment) -> type:
    """The options of a model as a dataclass, with the defaults of the model, or those of the default experiment."""
    from cnnjax import models

    builder, variant = models.builder_of(model)
    hints, texts = get_type_hints(builder), _texts(builder)
    given = default.net.options if default.net.name == model else {}
    fields = []
    for name in models.options_of(model):
        kind, parameter = hints.get(name), inspect.signature(builder).parameters[name]
        if name in _DECIDED or kind not in _KINDS:
            continue
        value = given.get(name, variant.get(name, parameter.default))
        if value is inspect.Parameter.empty:
            continue
        shown = Annotated[kind, tyro.conf.arg(help=texts.get(name, ""))]
        fields.append((name, shown, dataclasses.field(default=value)))
    made = dataclasses.make_dataclass("Options", fields, frozen=True)
    made.__doc__ = f"Options of {model}."
    return made


def _texts(builder: Any) -> dict[str, str]:
    """What the docstrings of a class and those above it say of its attributes."""
    found: dict[str, str] = {}
    for kind in inspect.getmro(builder):
        section = re.search(r"Attributes:\n((?:    .*\n?|\n)*)", inspect.cleandoc(kind.__doc__ or ""))
        for name, text in re.findall(r"^    (\w+): (.*(?:\n      .*)*)", section[1] if section else "", re.M):
            found.setdefault(name, " ".join(text.split()))
    return found
