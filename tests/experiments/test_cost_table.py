"""Published costs."""

from experiments import cost_table
from tests.experiments.pages import written


def test_published_costs_are_compared(tmp_path):
    cost_table.main(cost_table.Options("resnet20", tmp_path))
    found = written(tmp_path)
    assert (found["parameters_as_published"], found["macs_as_published"]) == ("1 of 1", "1 of 1")
    (costs,) = found["costs"]
    assert (costs["parameters"], costs["macs_as_published"]) == (269_722, True)
    assert 0.05 < costs["on_padding"] < 0.2
