"""The command line, as a careless user would call it: what it prints, and how it refuses."""

import gzip
import json
import os
import struct
import subprocess
import sys

import jax
import jaxtyping
import numpy as np
import pytest

import cnnjax
from cnnjax import cli, models
from cnnjax.cli import experiment_main, main, one_line_errors
from cnnjax.experiment import Outcome
from cnnjax.models.export import load_exported
from cnnjax.train import Evaluation, Experiment, Fit, load_variables, read_rows
from cnnjax.train.state import TrainState
from tests.data.tiny_sources import PUBLISHED


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Runs lie in a fresh folder."""
    monkeypatch.chdir(tmp_path)


def refused(capsys, *arguments):
    """What the command says when it exits with 2."""
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    said = capsys.readouterr()
    assert exit_.value.code == 2
    assert "Traceback" not in said.err
    return " ".join((said.out + said.err).split())


def idx_folder(folder, count=40, labels=None):
    folder.mkdir()
    pictures = np.random.default_rng(0).integers(0, 255, (count, 28, 28)).astype(np.uint8)
    labels = np.arange(count, dtype=np.uint8) % 10 if labels is None else labels
    for stem, array in (("t10k-images-idx3-ubyte", pictures), ("t10k-labels-idx1-ubyte", labels)):
        head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        (folder / f"{stem}.gz").write_bytes(gzip.compress(head + array.tobytes()))
    return folder


def check_exported(folder):
    """The exported run takes pixels, and gives the logits of the run's model for the pictures standardised."""
    program, about = load_exported(folder / "digits.zip")
    assert (about["shape"], about["dtype"]) == (["b", 32, 32, 1], "uint8")
    assert about["classes"] == [str(digit) for digit in range(10)]
    record = json.loads((folder / "run" / "config.json").read_text())["record"]
    picture = cnnjax.data.open_source("digits", "test")[3]["image"]
    pixels = np.stack([picture, 255 - picture])
    pictures = (pixels / np.float32(255) - np.float32(record["mean"])) / np.float32(record["deviation"])
    expected = models.create("lenet5").apply(load_variables(folder / "run"), pictures)
    np.testing.assert_allclose(program.call(pixels), expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_train_leaves_a_folder_with_a_page_that_is_exported(capsys, tmp_path, monkeypatch):
    main(["train", "lenet5", "--steps", "2", "--batch-size", "16", "--run-dir", "run"])
    said = capsys.readouterr().out
    assert said.startswith("lenet5")  # the model's name, and no empty lines before it
    assert "run folder: run" in said
    assert "page: run/report.html" in said
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"config.json", "metrics.jsonl", "checkpoints", "analysis", "report.html"} <= names
    analyses = {path.name for path in (tmp_path / "run" / "analysis").iterdir()}
    assert {
        "layers.csv",
        "layers.json",
        "learning_curve_loss.png",
        "learning_curve_accuracy.png",
        "receptive_fields.png",
        "filters.png",
        "maps_c1.png",
        "maps_output.png",
        "confusion_matrix.png",
        "most_confused_examples.png",
    } <= analyses
    layers = json.loads((tmp_path / "run" / "analysis" / "layers.json").read_text())
    assert [(row["layer"], row["receptive_field"]) for row in layers][:5] == [
        ("c1", "5"),
        ("s2", "6"),
        ("c3", "14"),
        ("s4", "16"),
        ("c5", "32"),
    ]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "lenet5 on digits" in page
    assert page.count("<img") == len([name for name in analyses if name.endswith(".png")])
    # An open size of the batch is no int, as the checked types have it.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    main(["export", "run", "--out", "digits.zip"])
    assert "written to digits.zip" in capsys.readouterr().out
    check_exported(tmp_path)
    assert "holds no step 7; there are" in refused(capsys, "export", "run", "--out", "digits.zip", "--step", "7")
    message = refused(capsys, "export", "run", "--out", "digits.zip", "--image-size", "64")
    assert "variables are not those of LeNet5" in message
    (tmp_path / "run" / "config.json").rename(tmp_path / "kept.json")
    assert "run/config.json is damaged, or is not that of" in refused(capsys, "export", "run", "--out", "digits.zip")
    (tmp_path / "kept.json").rename(tmp_path / "run" / "config.json")
    message = refused(capsys, "train", "lenet5", "--steps", "2", "--batch-size", "16", "--run-dir", "run")
    assert "run is not empty; pass --resume" in message
    message = refused(capsys, "train", "lenet5", "--steps", "3", "--batch-size", "16", "--run-dir", "run", "--resume")
    assert "run belongs to another experiment (steps: 2 there, 3 here)" in message


def test_several_seeds_of_a_variant_are_measured_and_resumed(monkeypatch, capsys, tmp_path):
    """With runs that take no time: what each is told, and what is written of them."""

    def run(experiment):
        folder = experiment.run_dir
        assert folder.exists() == experiment.resume
        (folder / "analysis").mkdir(parents=True, exist_ok=True)
        (folder / "analysis" / "receptive_fields.png").write_bytes(b"picture")
        state = TrainState(np.int32(5), {}, {}, (), jax.random.key(0), (), {})
        evaluation = Evaluation({"accuracy": 0.5 + experiment.seed / 4}, {}, {})
        fit = Fit(folder, state, evaluation, 5, 0.5, 3 if experiment.resume else 0, 2.0)
        assert experiment.steps == 1
        return Outcome(experiment, fit, folder / "report.html")

    monkeypatch.setattr("cnnjax.experiment.run", run)
    (tmp_path / "runs" / "seed-1").mkdir(parents=True)
    arguments = ["short", "--seeds", "2", "--run-dir", "runs", "--resume"]
    experiment_main(Experiment(steps=10_000), tmp_path / "found.json", arguments, short=Experiment(steps=1))
    found = json.loads((tmp_path / "found_short.json").read_text())
    # How long a resumed run took in all, nobody knows.
    assert found["runs"] == [
        {"seed": 0, "accuracy": 0.5, "seconds": 2.0},
        {"seed": 1, "accuracy": 0.75, "seconds": None},
    ]
    assert found["test_accuracy"] == {"mean": 0.625, "deviation": pytest.approx(0.25 / 2**0.5)}
    assert "test accuracy 62.50% +- 17.68% over 2 seeds, at most 2.0 s each" in capsys.readouterr().out
    assert (tmp_path / "found_short_receptive_fields.png").read_bytes() == b"picture"


def test_analyze(capsys, tmp_path):
    main(["analyze", "lenet5", "--image-size", "40", "--save", "tables"])
    said = capsys.readouterr().out
    assert "lenet5 on one picture of 40x40x1" in said
    (c1,) = [line for line in said.splitlines() if line.startswith("c1")]
    assert c1.split() == ["c1", "1x36x36x6", "156", "194,400", "7,776", "5", "1", "0"]
    assert (tmp_path / "tables" / "lenet5_layers.csv").read_text().splitlines()[1].startswith("c1,1x36x36x6,156,194400")


@pytest.mark.parametrize("size", [["--image-size", "40", "64"], ["--image-size", "40x64"], ["--image-size=40x64"]])
def test_analyze_of_an_oblong_picture(capsys, size):
    main(["analyze", *size, "convnet"])
    assert "convnet on one picture of 40x64x" in capsys.readouterr().out


def test_version(capsys):
    main(["--version"])
    assert capsys.readouterr().out == f"cnnjax {cnnjax.__version__}\n"


def test_models(capsys):
    main(["models", "lenet*"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["lenet5", "32x32x1", "61,706", "416,520"] in lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train lenett", "unknown model 'lenett'; did you mean lenet5"),
        ("train lenet5 --data digit", "unknown data 'digit' (did you mean 'digits'?)"),
        ("train lenet5 --train-split trian", "no split 'trian'"),
        ("train lenet5 --optimizer.learnin-rate 3", "--optimizer.learning-rate"),
        ("train lenet5 --optimizer.name adamm", "adamm"),
        ("train lenet5 --epochs many", "many"),
        ("train lenet5 --seed 99999999999999999999", "seed=99999999999999999999; expected 0 to 4294967295"),
        ("train lenet5 --epochs 0", "epochs=0.0; expected a number above 0"),
        ("train lenet5 --optimizer.learning-rate nan", "optimizer.learning_rate=nan"),
        ("train lenet5 --batch-size 60", "batch_size=60 cannot be split over 8 devices; 56 and 64 can"),
        ("train lenet5 --image-size 20", "pictures of 20x20 are too small for LeNet5: layer c5"),
        ("train lenet5 --data idx:nowhere", "nowhere"),
        ("train lenet5 --data idx:empty", "empty"),
        ("train lenet5 --data tfds:nothing --data-dir empty", "tfds build nothing"),
        ("train lenet5 --resume", "pass run_dir (--run-dir)"),
        ("train lenet5 --resume --run-dir empty", "empty holds no run to resume"),
        ("analyze lenet5 --image-size 31", "the smallest size that works is 32x32 (--image-size 32)"),
        ("analyze lenet5 --image-size 0", "image_size=0"),
        ("analyze lenet5 --image-size 40 64 3", "'40x64x3'; expected a number of pixels, such as 224, or height x"),
        ("train lenet5 --image-size small", "'small'; expected a number of pixels, such as 224, or height x width"),
        ("export empty --out empty/file.zip", "empty holds no checkpoints; pass the folder of a run"),
        ("models nothing", "no model matches 'nothing'; there are alexnet"),
        ("trian", "unknown command 'trian'; did you mean train?"),
        ("trian --help", "unknown command 'trian'; did you mean train?"),
        ("nothing --help", "unknown command 'nothing'; there are train, analyze, export, models"),
        ("train lenet5 --lr 0.1", "there is no --lr; did you mean --optimizer.learning-rate?"),
        ("train lenet5 --bs 8", "there is no --bs; did you mean --batch-size?"),
        ("train lenet5 --wd=0.1", "there is no --wd; did you mean --optimizer.weight-decay?"),
        ("train lenet5 --momentum 0.5", "--optimizer.momentum FLOAT"),
        ("train lenet5 --workers 2", "--loading.workers INT"),
        ("train lenet5 --num_workers 2", "there is no --num-workers; did you mean --loading.workers?"),
        ("train --model lenet5", "the model's name alone, as in `cnnjax train resnet20`"),
        ("train lenet5 --epochs 1e300", "epochs=1e+300 of 1,438 examples; expected at most 2,147,483,647 steps"),
        ("export empty --out nowhere/net.zip", "out=nowhere/net.zip, but there is no folder nowhere; make it"),
        ("export empty --out empty", "out=empty is a folder; expected the name of a file, such as empty/net.zip"),
        ("train lenet5 --data idx:no\x1b[2Jwhere\u202e", r"no\x1b[2Jwhere\u202e"),
    ],
)
def test_wrong_input_is_one_error_and_exit_code_2(capsys, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    assert message in refused(capsys, *arguments.split())
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    assert not list((tmp_path / "empty").iterdir())


def test_what_settings_are_called_elsewhere_leads_to_settings_that_there_are():
    for here in cli._ELSEWHERE:
        if here.startswith("--"):
            setting = Experiment()
            for part in here.removeprefix("--").replace("-", "_").split("."):
                setting = getattr(setting, part)


def test_pictures_of_28_need_a_size(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("cnnjax.experiment.write_report", lambda fit, *_, **__: fit.run_dir / "report.html")
    idx_folder(tmp_path / "mnist")
    message = refused(capsys, "train", "lenet5", "--data", "idx:mnist", "--batch-size", "8")
    assert "pictures of 28x28 are too small for LeNet5" in message
    assert "--image-size 32" in message
    options = "--train-split all[:30] --test-split all[25:] --batch-size 8 --steps 1 --image-size 32 --resize-by pad"
    main(f"train lenet5 --data idx:mnist {options} --run-dir run".split())
    assert "warning: 5 of the 15 test examples are also trained on" in capsys.readouterr().out
    assert read_rows(tmp_path / "run")[-1]["step"] == 1


def test_damaged_data(capsys, tmp_path):
    folder = idx_folder(tmp_path / "mnist")
    pictures = folder / "t10k-images-idx3-ubyte.gz"
    pictures.write_bytes(pictures.read_bytes()[:-100])
    assert "t10k-images-idx3-ubyte.gz" in refused(capsys, "train", "lenet5", "--data", "idx:mnist")
    idx_folder(tmp_path / "labels", labels=np.full(40, 77, np.uint8))
    assert "77" in refused(capsys, "train", "lenet5", "--data", "idx:labels")


def test_an_interruption_exits_with_130(capsys):
    with pytest.raises(SystemExit) as exit_, one_line_errors():
        raise KeyboardInterrupt
    assert exit_.value.code == 130
    assert "--resume" in capsys.readouterr().err


def test_the_traceback_is_there_for_those_who_ask(monkeypatch):
    monkeypatch.setenv("CNNJAX_TRACEBACK", "1")
    with pytest.raises(ValueError, match="told"), one_line_errors():
        raise ValueError("told")


def test_names_in_errors_do_not_steer_the_terminal(capsys):
    with pytest.raises(SystemExit), one_line_errors():
        raise ValueError("class '\x1b]0;owned\x07\nerror: none' of photo\u202egnp.exe")
    assert (
        capsys.readouterr().err.splitlines()[0] == r"error: class '\x1b]0;owned\x07\nerror: none' of photo\u202egnp.exe"
    )


def test_an_output_in_ascii_ends_no_command(tmp_path):
    """Nor a folder whose name is not UTF-8."""
    code = "from cnnjax.cli import one_line_errors\nwith one_line_errors():\n    print('größe \\udce9')"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert done.stdout == rb"gr\xf6\xdfe \udce9" + b"\n"


def test_other_errors_are_not_dressed_up():
    with pytest.raises(KeyError, match="bug"), one_line_errors():
        raise KeyError("bug")


@pytest.mark.skipif(not (PUBLISHED / "mnist").is_dir(), reason="no mnist in $CNNJAX_TEST_DATA")
def test_real_digits_from_idx_files(tmp_path):
    main(
        f"train lenet5 --data idx:{PUBLISHED / 'mnist'} --train-split all[:8000] --test-split all[8000:8200]"
        " --image-size 32 --resize-by pad --steps 60 --batch-size 64 --optimizer.learning-rate 2e-3"
        " --run-dir run".split()
    )
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["test"]["accuracy"] > 0.8
