"""What a run rests on."""

from experiments import attribution
from tests.experiments.pages import written


def test_attribution_of_a_run(tmp_path, barely_trained):
    attribution.main(attribution.Options(run_dir=barely_trained, examples=2, ascent=2, out=tmp_path))
    found = written(tmp_path)
    assert found["incompleteness_of_integrated_gradients"] < 0.05
    assert set(found["rank_correlation_with_all_new"]) == {
        *("saliency", "gradient x input", "guided backpropagation", "Grad-CAM")
    }
