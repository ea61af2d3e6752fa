"""The registry: names, near matches, refusals."""

import pytest

from cnnjax import models
from cnnjax.models import registry


def test_names_match_shell_patterns():
    assert "lenet5" in models.names()
    assert models.names("lenet?") == ("lenet5",)
    assert models.names("nothing*") == ()


def test_duplicates_raise(monkeypatch):
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))

    def lenet5():
        return models.LeNet5()

    with pytest.raises(ValueError, match=r"'lenet5' is registered already, by cnnjax\.models\.lenet"):
        models.register(image_shape=(1, 1, 1))(lenet5)


def test_a_registered_model_can_be_created(monkeypatch):
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))

    @models.register(image_shape=(8, 8, 3))
    def tiny(*, num_classes: int = 10):
        return models.LeNet5(num_classes=num_classes)

    assert models.create("tiny", num_classes=3) == models.LeNet5(num_classes=3)
    assert models.image_shape("tiny") == (8, 8, 3)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lenett", {}, r"unknown model 'lenett'; did you mean lenet5\?"),
        ("quite different", {}, "unknown model 'quite different'; there are .*lenet5"),
        ("lenet5", {"num_clases": 3}, r"no option 'num_clases'; did you mean num_classes\?"),
        ("lenet5", {"xyz": 3}, "no option 'xyz'; it takes num_classes, dtype, param_dtype"),
    ],
)
def test_unknown_names(name, options, message):
    with pytest.raises(ValueError, match=message):
        models.create(name, **options)
