"""Small experiments: nets of the zoo, on pictures that lie in a package."""

import pytest

from cnnjax import models
from cnnjax.experiment import QUICK


@pytest.mark.parametrize("name", QUICK)
def test_it_is_of_the_net_that_it_is_called_by_and_needs_no_download(name):
    experiment = QUICK[name]
    assert experiment.net.name == name
    assert models.create(name, num_classes=10, **experiment.net.options).num_classes == 10
    assert (experiment.pictures.data, experiment.net.weights) == ("digits", None)
