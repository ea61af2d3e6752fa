"""Maps of fresh weights and of a run."""

from PIL import Image

from experiments import feature_maps
from tests.experiments.pages import written


def test_feature_maps_of_fresh_weights_and_of_a_run(tmp_path, barely_trained):
    Image.new("RGB", (50, 40), (200, 30, 90)).save(tmp_path / "own.png")
    fresh = feature_maps.Options(model="lenet5", picture=tmp_path / "own.png", out=tmp_path / "fresh")
    feature_maps.main(fresh)
    found = written(tmp_path / "fresh")
    assert found["net"] == "lenet5 with fresh weights, on noise, on own.png"
    assert {"filters.png", "maps_c1.png", "statistics.csv"} <= {file.name for file in (tmp_path / "fresh").iterdir()}
    feature_maps.main(feature_maps.Options(run_dir=barely_trained, examples=8, out=tmp_path / "run"))
    found = written(tmp_path / "run")
    assert found["pictures"] == 8
    assert 0 <= found["similarity_of_first_and_last_layer"] <= 1
