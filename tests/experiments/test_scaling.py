"""What is predicted of many devices, by hand."""

import dataclasses
import json

import pytest

from experiments import scaling


def test_scaling_is_its_formula():
    """A link that moves a gigabyte a second, a step of a second, a millisecond a message."""
    setting = scaling.Setting(
        bytes=10**9, step_milliseconds=1000, link_gigabits=8, latency_microseconds=1000, overlap=0.0
    )
    # Over four devices, 3/4 of the bytes travel twice: 1.5 s; in six messages of a ring, four of a tree.
    assert scaling.reduction_seconds(setting, 4, "ring") == pytest.approx(1.506)
    assert scaling.reduction_seconds(setting, 4, "tree") == pytest.approx(1.504)
    assert scaling.reduction_seconds(setting, 5, "tree") == pytest.approx(1.606)
    assert scaling.efficiency(setting, 4, "ring") == pytest.approx(1 / 2.506)
    half = dataclasses.replace(setting, overlap=0.5)
    assert scaling.efficiency(half, 4, "ring") == pytest.approx(1 / 2.006)
    # On two devices a second and two messages, of which all but the messages is hidden; on one there is nothing.
    hidden = dataclasses.replace(setting, overlap=1.0)
    assert scaling.efficiency(hidden, 2, "ring") == pytest.approx(1 / 1.002)
    assert scaling.efficiency(setting, 1, "ring") == scaling.efficiency(setting, 1, "tree") == 1


def test_scaling_writes_what_it_predicts_and_assumes(tmp_path, capsys):
    scaling.main(scaling.Setting(), tmp_path / "curve.png")
    rows = json.loads((tmp_path / "curve.json").read_text())["predicted"]
    assert [row["devices"] for row in rows] == [2**power for power in range(13)]
    # By hand: 57.3025 ms are 2 * 4095 / 4096 * 102,228,128 bytes / 12.5 GB/s + 8,190 messages of 5 us.
    assert rows[-1]["ring"] == {"milliseconds": 57.303, "efficiency": 0.6357, "speedup": 2603.9}
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert "4,096" in said
    assert "Assumed: every device keeps its share of the batch" in " ".join(said.split())


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("bytes", 0, "bytes=0; expected a number above 0"),
        ("step_milliseconds", float("nan"), "step_milliseconds=nan; expected a number above 0"),
        ("link_gigabits", -1.0, "link_gigabits=-1.0; expected a number above 0"),
        ("latency_microseconds", -1.0, "latency_microseconds=-1.0; expected at least 0"),
        ("overlap", 1.5, "overlap=1.5; expected at least 0 and at most 1"),
    ],
)
def test_scaling_refuses_what_cannot_be(option, value, message):
    with pytest.raises(ValueError, match=message):
        scaling.Setting(**{option: value})
