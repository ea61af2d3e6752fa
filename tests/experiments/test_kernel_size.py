"""What if the kernel is 5 instead of 3?"""

import pytest

from experiments import kernel_size
from tests.experiments.pages import written


def test_windows_of_other_sizes_are_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(kernel_size, "VARIANTS", {"3x3": (3, 1), "two 3x3": (3, 2)})
    monkeypatch.setattr(kernel_size, "SIZE", 12)
    monkeypatch.setattr(kernel_size, "accuracy", lambda options, epochs, seed: 0.5 + seed / 4)
    kernel_size.main(kernel_size.Options(seeds=2, epochs=1, out=tmp_path))
    one, two = written(tmp_path)["variants"]
    assert (one["accuracy"], one["deviation"]) == (0.625, pytest.approx(0.25 / 2**0.5))
    assert one["convolution_weights"] == (9 + 1) * 16 + (9 * 16 + 1) * 32
    assert two["convolution_weights"] == one["convolution_weights"] + (9 * 16 + 1) * 16 + (9 * 32 + 1) * 32
    with pytest.raises(ValueError, match="seeds=0"):
        kernel_size.main(kernel_size.Options(seeds=0))


def test_a_net_with_another_window_is_trained(monkeypatch):
    """The options reach the model that is trained, whose page is not written here."""
    trained = []
    monkeypatch.setattr("cnnjax.experiment.running.write_run", lambda result, *_, **__: trained.append(result))
    found = kernel_size.accuracy({"kernel_size": 5, "features": (4,), "hidden": ()}, 0.05, seed=0)
    assert trained[0].state.params["conv1"]["kernel"].shape == (5, 5, 1, 4)
    assert found == trained[0].evaluation.summary["accuracy"]
