"""Effective fields of nets of noise and of a run."""

from experiments import effective_receptive_fields
from tests.experiments.pages import written


def test_effective_fields_follow_the_root(tmp_path, barely_trained, monkeypatch):
    monkeypatch.setattr(effective_receptive_fields, "DEPTHS", (1, 4))
    options = effective_receptive_fields.Options(run_dir=barely_trained, examples=4, zoo=(), out=tmp_path)
    effective_receptive_fields.main(options)
    found = written(tmp_path)
    assert found["largest_deviation_from_the_law"] < 1e-3
    assert [row["net"] for row in found["training"]] == ["before training"] * 2 + ["after training"] * 2
    assert (tmp_path / "after_training.png").exists()
