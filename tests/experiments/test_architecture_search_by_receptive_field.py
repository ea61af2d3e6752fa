"""Windows without gain."""

import dataclasses

import pytest

from experiments import architecture_search_by_receptive_field
from tests.experiments.pages import written


def test_windows_without_gain_are_found(tmp_path):
    options = architecture_search_by_receptive_field.Options(("vgg16",), (32, 224), tmp_path)
    architecture_search_by_receptive_field.main(options)
    small, large = written(tmp_path)["windows"]
    # VGG-16's thirteen convolutions, five pools and the dense layer after them: all gain at 224, where pool5 sees 212.
    assert (large["windows"], large["gaining"], large["macs_wasted"]) == (19, 19, 0)
    assert small["gaining"] < small["windows"]
    with pytest.raises(ValueError, match="too small"):
        architecture_search_by_receptive_field.main(dataclasses.replace(options, sizes=(8,)))
