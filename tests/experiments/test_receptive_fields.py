"""Published receptive fields."""

import pytest

from experiments import receptive_fields
from tests.experiments.pages import written


def test_published_receptive_fields_are_compared(tmp_path, capsys):
    receptive_fields.main(receptive_fields.Options("vgg1[16]", tmp_path))
    found = written(tmp_path)
    # Pool5 of VGG-11, and five pools of VGG-16, with three numbers each.
    assert (found["models"], found["equal_to_published"]) == (2, "18 of 18")
    assert "18 of 18 published numbers are equal" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no model matches 'vgg7'"):
        receptive_fields.main(receptive_fields.Options("vgg7", tmp_path))
