import itertools
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnjax.data import ArraySource, Info, RandomCrop, ReadPictures, eval_batches, train_batches
from tests.data.tiny_sources import NoColumns, encode

FIFTY = ArraySource({"number": np.arange(50)})
TEN = ArraySource({"image": np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1), "label": np.arange(10) % 3})


def first(batches, count):
    taken = list(itertools.islice(batches, count))
    batches.close()
    return taken


def ids(batches):
    return np.concatenate([batch["id"] for batch in batches]).tolist()


class Listed(NoColumns):
    """A source written by a user: any list of examples."""

    def __init__(self, examples, classes=()):
        self.examples = examples
        self.info = Info("listed", "all", {}, classes)

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index):
        return self.examples[index]


@pytest.mark.parametrize("threads", [0, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 7, 25, 40])
def test_every_epoch_is_another_permutation(batch_size, threads):
    steps = -(-50 // batch_size)
    order = ids(first(train_batches(TEN, batch_size=batch_size, seed=5, threads=threads), steps))
    epochs = [order[i : i + 10] for i in range(0, 50, 10)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(10))
    assert len({tuple(epoch) for epoch in epochs}) == 5


def test_the_order_is_the_sorted_raw_words_of_seed_and_epoch():
    order = ids(first(train_batches(TEN, batch_size=5, seed=7), 4))
    for epoch in (0, 1):
        words = np.random.PCG64(np.random.SeedSequence(7, spawn_key=(epoch,))).random_raw(10).tolist()
        assert order[10 * epoch : 10 * epoch + 10] == sorted(range(10), key=words.__getitem__)
    assert order != ids(first(train_batches(TEN, batch_size=5, seed=8), 4))


def test_a_batch_holds_what_its_ids_say():
    for batch in first(train_batches(TEN, batch_size=6, seed=0), 5):
        assert set(batch) == {"image", "label", "id", "valid"}
        np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["id"])
        np.testing.assert_array_equal(batch["label"], batch["id"] % 3)
        assert (batch["id"].dtype, batch["label"].dtype, batch["image"].dtype) == (np.int32, np.int32, np.uint8)
        assert batch["valid"].dtype == bool
        assert batch["valid"].all()


@pytest.mark.parametrize("batch_size", [3, 40])
def test_any_step_can_be_the_first(batch_size):
    straight = first(train_batches(TEN, batch_size=batch_size, seed=1), 21)
    for start in range(20):
        resumed = first(train_batches(TEN, batch_size=batch_size, seed=1, start=start * batch_size), 2)
        assert ids(resumed) == ids(straight[start : start + 2])


def test_a_far_step_is_the_first_that_is_made():
    """Whoever went through those before it would never come there."""
    (batch,) = first(train_batches(TEN, batch_size=4, seed=1, start=4 * 10**12), 1)
    epoch, place = divmod(4 * 10**12, 10)
    words = np.random.PCG64(np.random.SeedSequence(1, spawn_key=(epoch,))).random_raw(10).tolist()
    assert batch["id"].tolist() == sorted(range(10), key=words.__getitem__)[place : place + 4]


@pytest.mark.parametrize(
    "make",
    [
        lambda **k: train_batches(TEN, seed=2, **k),
        lambda **k: train_batches(TEN, seed=2, start=7, **k),
        lambda **k: eval_batches(TEN, **k),
    ],
)
@pytest.mark.parametrize(("batch_size", "count"), [(4, 2), (6, 3), (40, 2)])
def test_process_parts_make_up_the_global_batch(make, batch_size, count):
    parts = [first(make(batch_size=batch_size, process_index=p, process_count=count), 3) for p in range(count)]
    for step, whole in enumerate(first(make(batch_size=batch_size), 3)):
        for name, array in whole.items():
            np.testing.assert_array_equal(np.concatenate([part[step][name] for part in parts]), array)


@pytest.mark.parametrize("batch_size", [1, 3, 5, 10, 16, 37])
def test_evaluation_sees_every_example_once_in_order(batch_size):
    batches = list(eval_batches(TEN, batch_size=batch_size))
    assert len(batches) == -(-10 // batch_size)
    assert {len(batch["id"]) for batch in batches} == {batch_size}
    seen = [int(i) for batch in batches for i in batch["id"][batch["valid"]]]
    assert seen == list(range(10))
    for batch in batches:
        assert (batch["id"][~batch["valid"]] == 9).all()
        np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["id"])


def test_boxes_maps_and_nested_elements_are_stacked():
    examples = [
        {
            "boxes": np.full((3, 4), i, np.float32),
            "mask": np.array([True, i > 0, False]),
            "deep": {"map": np.eye(2) * i},
        }
        for i in range(5)
    ]
    (batch,) = eval_batches(Listed(examples), batch_size=5)
    assert batch["boxes"].shape == (5, 3, 4)
    assert batch["boxes"][4, 0, 0] == 4
    assert batch["mask"].tolist() == [e["mask"].tolist() for e in examples]
    assert batch["deep"]["map"][3].tolist() == [[3, 0], [0, 3]]


@pytest.mark.parametrize(("workers", "processes", "threads"), [(0, 1, 0), (0, 4, 2), (1, 1, 2), (2, 2, 1), (4, 1, 0)])
def test_the_order_is_the_same_for_any_workers_and_processes_and_after_a_resume(workers, processes, threads):
    """From place 36 on, which is where a run of other numbers may have stopped; ids only, over two epochs and more."""
    words = [
        np.random.PCG64(np.random.SeedSequence(3, spawn_key=(epoch,))).random_raw(50).tolist() for epoch in (0, 1, 2)
    ]
    stream = [index for epoch in words for index in sorted(range(50), key=epoch.__getitem__)]
    options = {"batch_size": 12, "seed": 3, "start": 36, "threads": threads, "workers": workers}
    parts = [
        first(train_batches(FIFTY, process_index=p, process_count=processes, **options), 8) for p in range(processes)
    ]
    found = [i for step in zip(*parts, strict=True) for batch in step for i in batch["id"].tolist()]
    assert found == stream[36 : 36 + 96]


def test_workers_close_with_the_iterator():
    batches = train_batches(FIFTY, batch_size=10, seed=0, workers=2)
    next(batches)
    assert len(multiprocessing.active_children()) >= 2
    batches.close()
    for child in multiprocessing.active_children():
        child.join(timeout=60)
    assert not multiprocessing.active_children()


ENDLESS = """
import multiprocessing, os, signal, sys
from multiprocessing import shared_memory
import numpy as np
from cnnjax.data import ArraySource, train_batches
shared_memory.SharedMemory.__init__ = None  # a segment cannot even be opened
if __name__ == "__main__":
    pictures = ArraySource({"image": np.zeros((64, 8, 8, 3), np.uint8)})
    batches = train_batches(pictures, batch_size=16, seed=0, threads=1, workers=2)
    next(batches)
    workers = [child.pid for child in multiprocessing.active_children()]
    # As Ctrl-C and schedulers do, which signal the workers as well.
    for pid in workers:
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(pid, number)
    for _ in range(20):
        next(batches)
    print(*workers, flush=True)
    for _ in batches:
        pass
"""


def test_workers_hear_no_signals_share_no_memory_and_end_with_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS)
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as parent:
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
        assert len(workers) == 2, parent.stderr.read()
    deadline = time.monotonic() + 20
    while (left := [pid for pid in workers if runs(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def runs(pid):
    """Whether there is such a process, one that has ended and is not yet buried left out."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


class Torn(Listed):
    """The first two examples from one on cannot be read."""

    def __init__(self, examples, first=2):
        super().__init__(examples)
        self.first = first

    def __getitem__(self, index):
        if index in (self.first, self.first + 1):
            raise OSError(f"file {index} is torn")
        return self.examples[index]


def torn(count=6):
    return Torn([{"image": np.full((2, 2, 1), i, np.uint8), "label": np.int32(i)} for i in range(count)])


def test_unreadable_examples_are_skipped():
    faults = []
    batches = list(eval_batches(torn(), batch_size=3, unreadable="skip", on_fault=faults.append))
    assert [batch["id"].tolist() for batch in batches] == [[0, 1, 2], [3, 4, 5]]
    assert [batch["valid"].tolist() for batch in batches] == [[True, True, False], [False, True, True]]
    assert [batch["label"].tolist() for batch in batches] == [[0, 1, 0], [4, 4, 5]]
    assert [tuple(fault) for fault in faults] == [
        ("listed", "all", i, f"example {i} of listed (all) cannot be read: file {i} is torn") for i in (2, 3)
    ]


@pytest.mark.parametrize(("threads", "workers"), [(0, 0), (3, 0), (1, 2)])
def test_unreadable_examples_are_substituted_by_the_next(threads, workers):
    faults = []
    options = {"unreadable": "substitute", "threads": threads, "workers": workers, "on_fault": faults.append}
    batches = list(eval_batches(torn(), batch_size=3, **options))
    assert [batch["label"].tolist() for batch in batches] == [[0, 1, 4], [4, 4, 5]]
    assert [batch["id"].tolist() for batch in batches] == [[0, 1, 4], [4, 4, 5]]
    assert all(batch["valid"].all() for batch in batches)
    assert [fault.index for fault in faults] == [2, 3, 3]


def test_unreadable_examples_stop_by_default_and_where_they_are_too_many(caplog):
    with pytest.raises(ValueError, match=r"example 2 of listed \(all\) cannot be read: file 2 is torn"):
        list(eval_batches(torn(), batch_size=3))
    with pytest.raises(ValueError, match="more than 1 examples cannot be read; the last: example 3"):
        list(eval_batches(torn(), batch_size=3, unreadable="skip", most_unreadable=1))
    assert "example 2 of listed (all) cannot be read" in caplog.text


def test_the_first_readable_example_is_the_model_of_all():
    faults = []
    options = {"batch_size": 2, "unreadable": "skip", "on_fault": faults.append}
    batches = list(eval_batches(Torn(torn().examples, first=0), **options))
    assert [batch["valid"].tolist() for batch in batches] == [[False, False], [True, True], [True, True]]
    assert [batch["label"].tolist() for batch in batches] == [[2, 2], [2, 3], [4, 5]]
    assert [fault.index for fault in faults] == [0, 1]
    with pytest.raises(ValueError, match="none of the first 2 examples can be read; the last: example 1 of listed"):
        list(eval_batches(Torn(torn(2).examples, first=0), **options))
    with pytest.raises(ValueError, match="more than 1 examples cannot be read"):
        list(eval_batches(Torn(torn().examples, first=0), **options, most_unreadable=1))


def test_encoded_pictures_are_decoded_and_brought_to_size():
    data = [encode(Image.new("RGB", (20 + 4 * i, 30), (10 * i, 0, 0)), "PNG") for i in range(3)]
    source = Listed([{"image": picture, "label": np.int32(0)} for picture in data])
    (batch,) = eval_batches(source, batch_size=3, read=ReadPictures((6, 8)))
    assert batch["image"].shape == (3, 6, 8, 3)
    assert batch["image"][:, 0, 0, 0].tolist() == [0, 10, 20]


def test_random_crops_depend_on_seed_and_place_alone():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 24, 30, 3), np.uint8)
    source = Listed([{"image": picture} for picture in pixels])
    options = {"batch_size": 4, "seed": 5, "read": ReadPictures(8, random_crop=RandomCrop(), seed=5)}
    straight = np.concatenate([batch["image"] for batch in first(train_batches(source, **options), 5)])
    later = np.concatenate([batch["image"] for batch in first(train_batches(source, start=6, **options), 3)])
    np.testing.assert_array_equal(later, straight[6:18])
    options["read"] = ReadPictures(8, random_crop=RandomCrop(), seed=6)
    again = np.concatenate([batch["image"] for batch in first(train_batches(source, **options), 5)])
    assert not np.array_equal(again, straight)


def sized(*sizes):
    return Listed([{"image": np.full((*size, 3), 7, np.uint8)} for size in sizes])


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_images_of_different_sizes_need_image_size(batch_size):
    source = sized((4, 4), (4, 4), (6, 5))
    words = r"image of example 2 of listed: \(6, 5, 3\), of example 0 of listed: \(4, 4, 3\).*--image-size N"
    with pytest.raises(ValueError, match=words):
        list(eval_batches(source, batch_size=batch_size))
    (batch,) = eval_batches(source, batch_size=3, read=ReadPictures((8, 9)))
    assert batch["image"].shape == (3, 8, 9, 3)
    assert (batch["image"] == 7).all()
    (batch,) = eval_batches(source, batch_size=3, read=ReadPictures(6, "pad"))
    assert batch["image"][0, :, :, 0].sum() == 7 * 16


def test_unequal_structures_and_taken_names_are_errors():
    with pytest.raises(ValueError, match=r"example 1 of listed: \['a', 'b'\], of example 0 of listed: \['a'\]"):
        list(eval_batches(Listed([{"a": np.ones(2)}, {"a": np.ones(2), "b": np.ones(2)}]), batch_size=2))
    with pytest.raises(ValueError, match="element 'id', a name every batch uses"):
        list(eval_batches(Listed([{"id": np.ones(2)}]), batch_size=1))
    with pytest.raises(ValueError, match='no "image"'):
        list(eval_batches(Listed([{"a": np.ones(2)}]), batch_size=1, read=ReadPictures(2)))
    with pytest.raises(ValueError, match="example 1 of listed: an image of 6x5 does not fit into 4x4"):
        list(eval_batches(sized((4, 4), (6, 5)), batch_size=1, read=ReadPictures(4, "pad")))


@pytest.mark.parametrize("label", [2, -1])
def test_a_label_that_names_no_class_is_an_error(label):
    source = Listed([{"label": np.int32(value)} for value in (0, 1, label)], classes=("a", "b"))
    with pytest.raises(ValueError, match=rf"example 2 of listed .* has the label {label}; expected 0 to 1"):
        list(eval_batches(source, batch_size=2))
    with pytest.raises(ValueError, match=rf"example 2 of listed .* has the label {label}"):
        first(train_batches(source, batch_size=3, seed=0), 1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": -4}, "batch_size is -4"),
        ({"process_count": 3}, "batch_size is 4; expected .* multiple of process_count, 3"),
        ({"process_index": 2, "process_count": 2}, "process_index is 2"),
        ({"process_index": -1}, "process_index is -1"),
        ({"process_count": 0}, "process_count 0"),
        ({"threads": -1}, "threads is -1"),
        ({"workers": -1}, "workers is -1"),
        ({"most_unreadable": -1}, "most_unreadable is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"start": -1}, "start is -1"),
    ],
)
def test_bad_arguments_are_errors_at_once(changes, words):
    with pytest.raises(ValueError, match=words):
        train_batches(TEN, **({"batch_size": 4, "seed": 0} | changes))
    if not {"seed", "start"} & changes.keys():
        with pytest.raises(ValueError, match=words):
            eval_batches(TEN, **({"batch_size": 4} | changes))
    with pytest.raises(ValueError, match="no examples"):
        eval_batches(Listed([]), batch_size=1)


def test_an_error_in_a_thread_reaches_the_caller():
    class Broken(Listed):
        def __getitem__(self, index):
            raise ValueError(f"example {index} cannot be read")

    with pytest.raises(ValueError, match="example 0 cannot be read"):
        next(eval_batches(Broken([{}] * 5), batch_size=2, threads=2))


def loaders():
    return [thread for thread in threading.enumerate() if "grain" in thread.name]


def test_a_dropped_iterator_leaves_no_thread():
    batches = train_batches(TEN, batch_size=4, seed=0, threads=4)
    next(batches)
    assert loaders()
    del batches
    for thread in loaders():
        thread.join(timeout=60)
    assert not loaders()


def test_an_open_iterator_lets_the_interpreter_exit_silently():
    script = (
        "import numpy as np; from cnnjax.data import ArraySource, train_batches\n"
        "source = ArraySource({'a': np.zeros((50, 4))})\n"
        "batches = train_batches(source, batch_size=8, seed=0); print(next(batches)['a'].shape)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("(8, 4)\n", "")


def test_importing_the_room_is_cheap():
    script = "import sys, cnnjax.data; print({'jax', 'grain', 'tensorflow_datasets', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "set()\n"
