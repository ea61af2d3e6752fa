"""The command line, as a careless user would call it: what it prints, and how it refuses."""

import gzip
import json
import struct

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import cnnjax
from cnnjax import models
from cnnjax.cli import experiment_main, main
from cnnjax.experiment import Experiment, Net, running
from cnnjax.models import registry
from cnnjax.models.export import load_exported
from cnnjax.settings import Devices, Training
from cnnjax.train import load_variables, read_rows
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


# A run of two steps, on one device.
SHORT = "--steps 2 --batch-size 16 --devices.count 1"


def check_exported(folder):
    """The exported run takes pixels, and gives the logits of the run's model for the pictures standardised."""
    program, about = load_exported(folder / "digits.zip")
    assert (about["shape"], about["dtype"]) == (["b", 32, 32, 1], "uint8")
    assert about["classes"] == [str(digit) for digit in range(10)]
    record = json.loads((folder / "run" / "config.json").read_text())["data"]
    picture = cnnjax.data.open_source("digits", "test")[3]["image"]
    pixels = np.stack([picture, 255 - picture])
    pictures = (pixels / np.float32(255) - np.float32(record["mean"])) / np.float32(record["deviation"])
    expected = models.create("lenet5").apply(load_variables(folder / "run"), pictures)
    np.testing.assert_allclose(program.call(pixels), expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.usefixtures("unchecked_types")
def test_train_leaves_a_folder_with_a_page_that_is_exported_evaluated_and_asked(capsys, tmp_path):
    main(f"train lenet5 {SHORT} --run-dir run".split())
    said = capsys.readouterr().out
    assert said[0].strip()  # no empty lines before the first
    assert "\nlenet5 on digits: 61,706 float32 parameters" in f"\n{said}"
    assert "run folder: run" in said
    assert "page: run/report.html" in said
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"config.json", "metrics.jsonl", "result.json", "checkpoints", "analysis", "report.html"} <= names
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
    main(["export", "run", "--out", "digits.zip"])
    assert "written to digits.zip" in capsys.readouterr().out
    check_exported(tmp_path)
    check_evaluated(capsys, tmp_path)
    check_predicted(capsys, tmp_path)
    assert "holds no step 7; there are" in refused(capsys, "export", "run", "--out", "digits.zip", "--step", "7")
    message = refused(capsys, "export", "run", "--out", "digits.zip", "--image-size", "64")
    assert "variables are not those of LeNet5" in message
    (tmp_path / "run" / "config.json").rename(tmp_path / "kept.json")
    assert "run/config.json is damaged, or is not that of" in refused(capsys, "export", "run", "--out", "digits.zip")
    (tmp_path / "kept.json").rename(tmp_path / "run" / "config.json")
    # The same again by its record.
    main("train --config run/config.json --run-dir again".split())
    capsys.readouterr()
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("run", "again")]
    assert results[0] == results[1]
    message = refused(capsys, *f"train lenet5 {SHORT} --run-dir run".split())
    assert "run is not empty; pass --resume" in message
    message = refused(capsys, *f"train lenet5 {SHORT} --steps 3 --run-dir run --resume".split())
    assert "run belongs to another experiment (steps: 2 there, 3 here)" in message


class Small(nn.Module):
    """A net that is soon compiled."""

    num_classes: int = 2
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images, train=False):
        maps = nn.Conv(2, (3, 3), strides=4, name="conv")(images)
        return nn.Dense(self.num_classes, name="output")(maps.mean((1, 2)))


def check_evaluated(capsys, folder):
    """The numbers of the run are printed again, and those of other splits and other data."""
    result = json.loads((folder / "run" / "result.json").read_text())
    main(["evaluate", "run", "--out", "found.json"])
    said = capsys.readouterr().out
    assert said.startswith("test of digits, step 2: ")
    assert f"loss {result['loss']:.4g}" in said
    assert f"accuracy {result['accuracy']:.2%}" in said
    found = json.loads((folder / "found.json").read_text())
    assert {name: found[name] for name in ("split", "step")} == {"split": "test", "step": 2}
    assert found["accuracy"] == pytest.approx(result["accuracy"])
    main("evaluate run --split train[:20] --step best --batch-size 8".split())
    assert "train[:20] of digits, step 2: " in capsys.readouterr().out
    np.savez(folder / "mine.npz", images=np.zeros((10, 32, 32), np.uint8), labels=np.arange(10))
    main("evaluate run --data npz:mine.npz --split all".split())
    assert "all of npz:mine.npz, step 2: " in capsys.readouterr().out
    assert "no split 'validation'" in refused(capsys, "evaluate", "run", "--split", "validation")
    assert "holds no step 7; there are" in refused(capsys, "evaluate", "run", "--step", "7")


def check_predicted(capsys, folder):
    """Files and folders of any size, as a table and as a file."""
    (folder / "pictures").mkdir()
    Image.new("RGB", (50, 41), (200, 30, 30)).save(folder / "pictures" / "a.png")
    Image.new("L", (10, 10), 200).save(folder / "b.jpg")
    main("predict run b.jpg pictures --out said.json".split())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["picture", "class", "probability"]
    assert [line.split()[0] for line in lines if line.startswith(("b.jpg", "pictures"))] == ["b.jpg", "pictures/a.png"]
    records = json.loads((folder / "said.json").read_text())
    assert [len(record) for record in records] == [13, 13]
    main("predict run b.jpg --out said.csv --batch-size 1".split())
    assert (folder / "said.csv").read_text().splitlines()[0].startswith("picture,class,probability,probability of 0,")
    (folder / "notes.txt").write_text("none")
    assert "notes.txt: " in refused(capsys, "predict", "run", "notes.txt")
    assert "there is no nothing.png; pass files or folders" in refused(capsys, "predict", "run", "nothing.png")


@pytest.mark.usefixtures("unchecked_types", "_short_page")
def test_several_seeds_of_a_variant_are_measured_and_resumed(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(registry._ENTRIES, "small", registry.Entry(Small, {}, (32, 32, 1)))
    default = Experiment(Net("small"), training=Training(steps=10_000, devices=Devices(count=1)))
    short = default.with_training(steps=1)
    arguments = "short --seed 3 --run-dir runs".split()
    experiment_main(default, tmp_path / "found.json", arguments, short=short)
    assert not (tmp_path / "found_short.json").exists()  # one seed is no measurement
    (tmp_path / "runs").rename(tmp_path / "one")
    (tmp_path / "runs").mkdir()
    (tmp_path / "one").rename(tmp_path / "runs" / "seed-3")
    experiment_main(default, tmp_path / "found.json", [*arguments, "--seeds", "2", "--resume"], short=short)
    found = json.loads((tmp_path / "found_short.json").read_text())
    results = [json.loads((tmp_path / "runs" / f"seed-{seed}" / "result.json").read_text()) for seed in (3, 4)]
    assert [run["seed"] for run in found["runs"]] == [3, 4]
    assert [run["accuracy"] for run in found["runs"]] == [result["accuracy"] for result in results]
    # How long a resumed run took in all, nobody knows.
    assert found["runs"][0]["seconds"] is None
    assert found["runs"][1]["seconds"] > 0
    assert found["test_accuracy"]["mean"] == pytest.approx(np.mean([result["accuracy"] for result in results]))
    assert found["settings"]["training"]["steps"] == 1
    assert "over 2 seeds, at most" in capsys.readouterr().out
    assert (tmp_path / "found_short_receptive_fields.png").read_bytes() == b"picture"


def test_no_seeds_are_refused(capsys, tmp_path):
    with pytest.raises(SystemExit):
        experiment_main(Experiment(), tmp_path / "found.json", ["--seeds", "0"])
    assert "error: seeds=0; expected a number above 0" in capsys.readouterr().err


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
        (
            "train lenet5 --optimizer.learning-rate nan",
            "optimizer.learning_rate=nan; expected a number that float32 holds",
        ),
        ("train lenet5 --batch-size 60", "batch_size=60 cannot be split over 8 devices; 56 and 64 can"),
        ("train lenet5 --image-size 20", "pictures of 20x20 are too small for LeNet5: layer c5"),
        ("train lenet5 --data idx:nowhere", "nowhere"),
        ("train lenet5 --data idx:empty", "empty"),
        ("train lenet5 --data tfds:nothing --data-dir empty", "tfds build nothing"),
        ("train lenet5 --resume", "pass run_dir (--run-dir)"),
        (
            "train lenet5 --patience 3 --saving.keep-best 0",
            "patience=3 needs the best checkpoint; pass saving.keep_best",
        ),
        ("train lenet5 --net.depth 3", "--net.depth"),
        ("train lenet5 --mean 0.5 0.5", "mean=(0.5, 0.5), but the pictures have 1 channels; give as many numbers"),
        ("train lenet5 --weights nothing.safetensors", "there is no weights file nothing.safetensors"),
        ("train lenet5 --weights empty", "empty holds no checkpoints; pass the folder of a run"),
        (
            "train lenet5 --weights-sha256 00",
            "weights_sha256 is given, and weights are not; pass weights (--weights FILE)",
        ),
        ("train lenet5 --optimizer.frozen conv1", "no parameter has a path that fits 'conv1'; there are c1"),
        ("train lenet5 --task tagging", "digits has no 'tags' for tagging; choose the task 'classification'"),
        ("train --config nowhere.json", "nowhere.json"),
        ("train --config empty", "empty"),
        ("evaluate empty", "empty holds no checkpoints; pass the folder of a run"),
        ("evaluate empty --step last", "last"),
        ("evaluate empty --out nowhere/found.json", "out=nowhere/found.json, but there is no folder nowhere; make it"),
        ("predict empty empty", "empty holds no checkpoints; pass the folder of a run"),
        ("predict empty", "no pictures came; name files or folders"),
        ("predict empty x.png --out found.txt", "out=found.txt; expected a name that ends in .csv or .json"),
        ("train lenet5 --resume --run-dir empty", "empty holds no run to resume"),
        ("analyze lenet5 --image-size 31", "the smallest size that works is 32x32 (--image-size 32)"),
        ("analyze lenet5 --image-size 0", "image_size=0"),
        ("analyze lenet5 --image-size 40 64 3", "'40x64x3'; expected a number of pixels, such as 224, or height x"),
        ("train lenet5 --image-size small", "'small'; expected a number of pixels, such as 224, or height x width"),
        ("export empty --out empty/file.zip", "empty holds no checkpoints; pass the folder of a run"),
        ("models nothing", "no model matches 'nothing'; there are alexnet"),
        ("trian", "unknown command 'trian'; did you mean train?"),
        ("trian --help", "unknown command 'trian'; did you mean train?"),
        ("nothing --help", "unknown command 'nothing'; there are train, evaluate, predict, analyze, export, models"),
        ("train lenet5 --lr 0.1", "there is no --lr; did you mean --optimizer.learning-rate?"),
        ("train lenet5 --bs 8", "there is no --bs; did you mean --batch-size?"),
        ("train lenet5 --wd=0.1", "there is no --wd; did you mean --optimizer.weight-decay?"),
        ("train lenet5 --momentum 0.5", "--optimizer.momentum FLOAT"),
        ("train lenet5 --workers 2", "--loading.workers INT"),
        ("train lenet5 --num_workers 2", "there is no --num-workers; did you mean --loading.workers?"),
        ("train --model lenet5", "the model's name alone, as in `cnnjax train resnet20`"),
        ("train lenet5 --epochs 1e300", "epochs=1e+300 of 1,438 examples; expected at most 2,147,483,647 steps"),
        ("export empty --out nowhere/net.zip", "out=nowhere/net.zip, but there is no folder nowhere; make it"),
        ("export empty --out empty", "out=empty is a folder; expected the name of a file, such as empty/result"),
        ("train lenet5 --data idx:no\x1b[2Jwhere\u202e", r"no\x1b[2Jwhere\u202e"),
    ],
)
def test_wrong_input_is_one_error_and_exit_code_2(capsys, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    assert message in refused(capsys, *arguments.split())
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    assert not list((tmp_path / "empty").iterdir())


@pytest.fixture
def _short_page(monkeypatch):
    """Pages of runs are tested elsewhere; here they are a picture."""

    def write(result, task, **options):
        (result.run_dir / "analysis").mkdir(exist_ok=True)
        (result.run_dir / "analysis" / "receptive_fields.png").write_bytes(b"picture")

    monkeypatch.setattr(running, "write_run", write)


@pytest.mark.usefixtures("_short_page")
def test_pictures_of_28_need_a_size(capsys, tmp_path):
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


@pytest.mark.skipif(not (PUBLISHED / "mnist").is_dir(), reason="no mnist in $CNNJAX_TEST_DATA")
def test_real_digits_from_idx_files(tmp_path):
    main(
        f"train lenet5 --data idx:{PUBLISHED / 'mnist'} --train-split all[:8000] --test-split all[8000:8200]"
        " --image-size 32 --resize-by pad --steps 60 --batch-size 64 --optimizer.learning-rate 2e-3"
        " --run-dir run".split()
    )
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["test"]["accuracy"] > 0.8
