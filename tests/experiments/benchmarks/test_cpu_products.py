"""The timing of every method of a product."""

import pytest

from experiments.benchmarks import cpu_products


@pytest.mark.parametrize(
    ("line", "among"),
    [
        ("toy 2 8 4 4 3 1 1 SAME", {"lax", "taps", "onednn taps", "convolution", "onednn"}),
        ("toy 2 8 4 4 3 1 2 VALID", {"lax", "convolution", "chosen", "onednn"}),
        ("toy 2 3 4 6 3 1 1 VALID", {"lax", "matrix", "onednn matrix", "taps"}),
    ],
    ids=["3x3", "groups", "dense"],
)
def test_all_methods_of_a_layer_are_timed(line, among):
    rows = cpu_products.measure_layer(line, rounds=1)
    assert [row["product"] for row in rows] == ["images", "kernel", "output"]
    output = rows[2]
    assert among <= set(output["milliseconds"])
    assert all(time > 0 for time in output["milliseconds"].values())
    ours = output["milliseconds"].get(output["chosen"], output["milliseconds"].get("chosen"))
    assert output["times_faster_than_lax"] == pytest.approx(output["milliseconds"]["lax"] / ours, abs=1e-3)
    assert output["share_of_the_best"] >= 1


def test_a_layer_that_is_none_is_told():
    with pytest.raises(ValueError, match="--only nothing is in the name of no layer"):
        cpu_products.main(cpu_products.Options(only="nothing"))
