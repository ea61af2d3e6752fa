"""Settings by the names that other programs have for them."""

import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager

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
    "--devices.strategy": "parallel strategy",
    "--devices.batch-norm-statistics": "bn sync-bn",
    "--devices.coordinator": "coordinator",
    "--devices.num-processes": "num-processes world-size",
    "--devices.process-id": "process-id rank",
    "--resize-by": "fit",
    "--most-skipped": "most-refused",
    "--weights": "pretrained init-from finetune checkpoint",
    "--optimizer.frozen": "freeze frozen",
    "--optimizer.b2": "beta2 b2",
    "--patience": "early-stopping early-stopping-patience",
    "--net.stochastic-depth": "drop-path drop-path-rate stochastic-depth",
    "--net.remat": "remat checkpointing",
    "--label-smoothing": "smoothing ls",
    "--image-size": "size img-size imgsz input-size resolution",
    "--data": "dataset data-path",
    "--data-dir": "data-root root",
    "--precision": "amp fp16 bf16 half dtype mixed-precision",
    "--average": "ema model-ema ema-decay",
    "--accumulate": "accum accumulation grad-accum gradient-accumulation-steps accumulate-grad-batches",
    "--devices.count": "gpu gpus num-gpus device devices",
    "--run-dir": "output output-dir save-dir logdir log-dir",
    "--saving.every": "save-every save-freq checkpoint-every",
    "--log-every": "log-freq log-interval print-freq",
    "the model's name alone, as in `cnnjax train resnet20`": "model arch net network",
}
_HERE = {f"-{'-' * (len(name) > 1)}{name}": here for here, names in _ELSEWHERE.items() for name in names.split()}


@contextmanager
def settings_of_elsewhere(arguments: Sequence[str]) -> Generator[None, None, None]:
    """Names the setting that is meant, where arguments are refused that other programs have, such as --lr."""
    try:
        yield
    except SystemExit as refused:
        if refused.code == 2:
            for option in dict.fromkeys(argument.partition("=")[0].replace("_", "-") for argument in arguments):
                if option in _HERE:
                    print(f"error: there is no {option}; did you mean {_HERE[option]}?", file=sys.stderr)
        raise
