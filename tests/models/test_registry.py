"""The registry: names, near matches, refusals."""

from collections.abc import Sequence

import numpy as np
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
    assert models.logits_of("tiny") == "picture"


def test_a_registered_model_says_what_its_logits_are_of(monkeypatch):
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    models.register("dense", models.ConvNet, (8, 8, 3), logits_of="pixels", features=(4,))
    assert models.logits_of("dense") == "pixels"
    assert models.create("dense", num_classes=3).features == (4,)
    with pytest.raises(ValueError, match="unknown model 'dens'; did you mean dense"):
        models.logits_of("dens")


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("what", ["words", None])
def test_logits_of_something_else_are_refused(what):
    with pytest.raises(
        ValueError, match=rf"logits_of={what!r}; expected 'picture' or 'pixels' or 'boxes' or 'instances'"
    ):
        models.register("other", models.ConvNet, (8, 8, 3), logits_of=what)


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


@pytest.mark.parametrize("num_classes", [0, -1, "10", True, 1.5])
@pytest.mark.usefixtures("unchecked_types")
def test_numbers_of_classes_that_no_model_can_have(num_classes):
    for name in models.names():
        message = rf"model '{name}': num_classes={num_classes!r} is .*None gives the features"
        with pytest.raises(ValueError, match=message):
            models.create(name, num_classes=num_classes)


@pytest.mark.usefixtures("unchecked_types")
def test_a_number_of_classes_from_numpy_is_pythons():
    assert type(models.create("lenet5", num_classes=np.int64(3)).num_classes) is int
    assert models.create("lenet5", num_classes=None).num_classes is None


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet20", {"depth": 0}, "depth=0 is too small; expected at least 1"),
        ("densenet121", {"growth": 2.5}, "growth=2.5 is not whole"),
        ("convnet", {"features": (8, 0)}, "features=0 is too small"),
        ("convnet", {"hidden": 8}, "hidden=8; expected a tuple of whole numbers"),
        ("convnet", {"features": "88"}, "features='88'; expected a tuple of whole numbers"),
        ("convnet", {"dropout": "0.5"}, "dropout='0.5'; expected a number"),
        ("vgg11", {"batch_norm": "no"}, "batch_norm='no'; expected True or False"),
    ],
)
@pytest.mark.usefixtures("unchecked_types")
def test_options_that_no_model_can_have(name, options, message):
    with pytest.raises(ValueError, match=f"model '{name}': {message}"):
        models.create(name, **options)


def test_options_of_ones_own_may_be_as_low_as_their_default(monkeypatch):
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))

    class Padded(models.ConvNet):
        padding: int = 0
        sizes: Sequence[int] = (3,)

    models.register("padded", Padded, (8, 8, 3))
    assert models.create("padded", padding=0, sizes=[5, 7]).sizes == (5, 7)
    with pytest.raises(ValueError, match="padding=-1 is too small; expected at least 0"):
        models.create("padded", padding=-1)


@pytest.mark.parametrize("name", [models.LeNet5(), models.LeNet5, None])
@pytest.mark.usefixtures("unchecked_types")
def test_what_is_no_name_is_told_how_to_get_one(name):
    with pytest.raises(ValueError, match=r"expected text, such as 'lenet5'. A class .* by models\.register"):
        models.create(name)


def test_options_of_a_part_do_not_hold_for_another():
    assert models.create("ssd_small").backbone_options == {"width": 16, "batch_norm": True}
    assert models.create("ssd_small", backbone="resnet18").backbone_options is None
    own = models.create("ssd_small", backbone="vgg13", backbone_options={"width": 8})
    assert own.backbone_options == {"width": 8}
