"""The registry: names, near matches, refusals."""

import pytest

from cnnjax import models
from cnnjax.models import registry


def test_names_match_shell_patterns():
    assert "lenet5" in models.names()
    assert models.names("lenet?") == ("lenet5",)
    assert models.names("se_resnet1*") == ("se_resnet101", "se_resnet152", "se_resnet18")
    assert models.names("nothing*") == ()


def test_duplicates_raise():
    with pytest.raises(ValueError, match=r"'lenet5' is registered already, by cnnjax\.models\.lenet"):
        models.register("lenet5", models.LeNet5, (1, 1, 1))


def test_a_registered_model_can_be_created(monkeypatch):
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    models.register("tiny", models.ConvNet, (8, 8, 3), features=(4,), hidden=())
    assert models.create("tiny", num_classes=3) == models.ConvNet(3, features=(4,), hidden=())
    assert models.create("tiny", features=(5,)).features == (5,)
    assert models.image_shape("tiny") == (8, 8, 3)


@pytest.mark.parametrize("name", models.names())
def test_models_know_their_names(name):
    assert models.name_of(models.create(name, num_classes=3)) == name


def test_models_of_other_options_have_the_names_of_their_classes():
    assert models.name_of(models.create("resnet20", depth=14)) == "CifarResNet"
    assert models.name_of(models.create("resnet20", scan=True)) == "resnet20"


def test_models_know_the_pictures_their_class_was_designed_for():
    assert registry.designed_for(models.create("inception_v3", num_classes=3)) == (299, 299, 3)

    class Unregistered(models.ConvNet):
        pass

    with pytest.raises(ValueError, match=r"Unregistered is not registered; say the shape"):
        registry.designed_for(Unregistered())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lenett5", {}, r"unknown model 'lenett5'; did you mean lenet5"),
        ("resnet51", {}, r"unknown model 'resnet51'; did you mean resnet"),
        ("quite different", {}, "unknown model 'quite different'; there are .*lenet5"),
        ("lenet5", {"num_clases": 3}, r"no option 'num_clases'; did you mean num_classes\?"),
        ("lenet5", {"xyz": 3}, "no option 'xyz'; it takes num_classes, dtype, param_dtype$"),
    ],
)
def test_unknown_names(name, options, message):
    with pytest.raises(ValueError, match=message):
        models.create(name, **options)
