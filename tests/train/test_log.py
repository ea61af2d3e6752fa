"""The log: rows on disk, events for TensorBoard."""

import json
import struct

import pytest

from cnnjax.data.batches.loader import Fault
from cnnjax.train import read_rows
from cnnjax.train.log import MetricsLog


def row(step, **more):
    return {"step": step, "epoch": step / 10, "train": {"loss": 1 / step}, **more}


def events(folder):
    """Scalars of TFRecord event files, parsed by hand from the record framing."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for path in sorted(folder.glob("events.*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            data = data[12 + length + 4 :]
            for value in event.summary.value:
                found[value.tag, event.step] = value.simple_value
    return found


def test_rows_and_events(tmp_path):
    rows = [row(10, test={"accuracy": 0.5}), row(20, learning_rate=float("nan"))]
    with MetricsLog(tmp_path) as log:
        for one in rows[:1]:
            log.write(one)
    with MetricsLog(tmp_path, step=10) as log:
        log.write(row(20))
    assert read_rows(tmp_path) == [rows[0], row(20)]
    found = events(tmp_path)
    assert found["train/loss", 10] == pytest.approx(0.1)
    assert found["test/accuracy", 10] == 0.5
    assert found["train/loss", 20] == pytest.approx(0.05)


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"3",
        b"null",
        b"{}",
        b'{"step": 1}',
        b'{"step": "1", "epoch": 1, "train": {}}',
        b'{"step": true, "epoch": 1, "train": {}}',
        b'{"step": 1, "epoch": [], "train": {}}',
        b'{"step": 1, "epoch": 1, "train": [0.5]}',
        b'{"step": 1, "epoch": 1, "train": {"loss": "0.5"}}',
        b"[" * 100_000,
        b"\xff",
        b"",
    ],
    ids=range(13),
)
def test_a_line_that_is_no_row_is_named(tmp_path, line):
    good = json.dumps(row(10, test={"accuracy": None})).encode()
    (tmp_path / "metrics.jsonl").write_bytes(good + b"\n" + line + b"\n")
    with pytest.raises(ValueError, match=r"metrics.jsonl, line 2, is damaged \(.*\); mend or remove the line"):
        read_rows(tmp_path)


def test_a_resumed_log_forgets_what_came_later(tmp_path):
    with MetricsLog(tmp_path) as log:
        for step in (10, 20, 30):
            log.write(row(step))
    # The process died in the middle of a line.
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "ep')
    assert [one["step"] for one in read_rows(tmp_path)] == [10, 20, 30]
    with MetricsLog(tmp_path, step=20) as log:
        log.write(row(30))
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [10, 20, 30]


def test_a_resumed_log_forgets_unreadable_examples_that_came_later_too(tmp_path):
    with MetricsLog(tmp_path) as log:
        for step in (10, 20):
            log.faults(step, [Fault("digits", "train", step, "torn")])
    with MetricsLog(tmp_path, step=10) as log:
        log.faults(20, [])
    (line,) = (tmp_path / "unreadable.jsonl").read_text().splitlines()
    assert json.loads(line) == {"step": 10, "source": "digits", "split": "train", "index": 10, "message": "torn"}
