"""The probe that receptive fields are compared with."""

from experiments.benchmarks import receptive_field


def test_probes_lie_within_the_fields_that_are_read():
    seconds, inside = receptive_field.probe("lenet5", 3)
    assert len(seconds) == 3
    assert all(inside)
    fields = receptive_field.read("lenet5")[1]
    assert fields["c5"].size == (32, 32)
