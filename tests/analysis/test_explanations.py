"""Methods side by side, and what becomes of them when weights are drawn anew."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from cnnjax import models
from cnnjax.analysis import attribution, explain, sanity_check
from cnnjax.analysis.explanations import METHODS, _rank_correlation
from tests.analysis.goldens_net import CHOSEN, GOLDENS, IMAGES, net

KEY = jax.random.key(0)


def test_every_method_on_every_picture():
    found = explain(KEY, net, IMAGES, targets=CHOSEN, classes=tuple("abcde"))
    assert [*found.maps] == [*METHODS]
    np.testing.assert_allclose(found.scores, GOLDENS["scores"][[0, 1], [3, 1]], rtol=1e-4)
    np.testing.assert_allclose(found.maps["saliency"], GOLDENS["saliency"].max(-1), rtol=1e-4)
    np.testing.assert_allclose(found.maps["Grad-CAM"], GOLDENS["grad_cam"], rtol=1e-4, atol=1e-6)
    assert (found.layer, found.maps["Grad-CAM"].shape) == ("second", (2, 6, 6))
    rows = found.rows()
    assert len(rows) == 2 * len(METHODS)
    (whole,) = [row for row in rows if row["example"] == 1 and row["method"] == "integrated gradients"]
    gained = attribution.score_of(net(IMAGES) - net(0 * IMAGES), CHOSEN)
    assert (whole["target"], whole["total"]) == ("b", pytest.approx(float(gained[1]), abs=1e-3))
    assert 0.1 <= whole["concentration"] <= 1
    assert len(found.draw().axes) == 2 * (1 + len(METHODS))
    assert "Class activation maps are those of second." in str(found)


def test_without_rectifiers_two_methods_are_left_out():
    def smooth(x):
        with jax.named_scope("maps"):
            x = jnp.tanh(x)
        return x.mean((1, 2))

    found = explain(KEY, smooth, IMAGES)
    assert set(METHODS) - set(found.maps) == {"guided backpropagation", "deconvolution"}
    with pytest.raises(ValueError, match="no rectifier"):
        explain(KEY, smooth, IMAGES, methods=("deconvolution",))


def test_methods_need_what_they_need():
    def flat(x):
        return x.reshape(len(x), -1)[:, :4]

    # No layer has rows and columns, and nothing rectifies.
    found = explain(KEY, flat, IMAGES, targets=jnp.zeros(2, jnp.int32))
    assert set(METHODS) - set(found.maps) == {"guided backpropagation", "deconvolution", "Grad-CAM", "Grad-CAM++"}
    assert found.layer is None
    assert tuple(explain(KEY, flat, IMAGES, methods="saliency").maps) == ("saliency",)


def leap(x):
    """A score that leaps by 1 at a mean of 0.37, within a part of the line that no middle of 4,096 falls on."""
    mean = x.mean((1, 2, 3))
    return jnp.stack([jax.nn.sigmoid(2e5 * (mean - 0.37)), mean], -1)


def test_what_integrated_gradients_miss_is_on_the_result():
    images, methods = jnp.full((1, 4, 4, 1), 0.9), ("saliency", "integrated gradients")
    with pytest.warns(RuntimeWarning, match=r"not complete after 4,096 parts of the line: on example 0 100\.0%"):
        found = explain(KEY, leap, images, targets=jnp.array([0]), methods=methods)
    assert found.completeness_errors == pytest.approx((1.0,), abs=1e-4)
    assert "Integrated gradients are not complete: up to 100.0% of a score's gain is missing." in str(found)
    whole = explain(KEY, leap, images, targets=jnp.array([1]), methods=methods)
    assert max(whole.completeness_errors) < 1e-3
    assert whole.notes() == []
    assert explain(KEY, leap, images, methods="saliency").completeness_errors is None


def test_what_is_compiled_is_kept_until_something_changes():
    weights, traced = {"scale": jnp.ones((1, 1, 1, 3))}, []

    def function(x):
        traced.append(x)
        return (jnp.tanh(x) * weights["scale"]).mean((1, 2))

    def of(picture):
        traced.clear()
        found = explain(KEY, function, picture, targets=jnp.array([2]), methods=("saliency", "occlusion"))
        return found.maps["saliency"], len(traced)

    picture = jnp.full((1, 4, 4, 3), 0.5)
    first, times = of(picture)
    again, fewer = of(picture)
    np.testing.assert_array_equal(first, again)
    # Read, and run once for the scores.
    assert fewer == 2 < times
    assert (of(picture + 0.1)[0] != first).all()
    weights["scale"] = 3 * jnp.ones((1, 1, 1, 3))
    np.testing.assert_allclose(of(picture)[0], 3 * first, rtol=1e-6)


def test_weights_drawn_anew_from_the_output_down():
    model = models.ConvNet(num_classes=3, features=(8,), hidden=(16,))
    variables = models.initialize(jax.random.key(1), model, IMAGES)
    methods = ("saliency", "gradient x input")
    net = models.bind(model, variables)
    found = sanity_check(KEY, net, IMAGES, methods=methods)
    assert found.randomized[0] == "nothing"
    assert set(found.randomized[1:]) == {*variables["params"]}
    assert found.randomized[-1] == "conv1"
    # Rank correlation with itself is one; with all weights new it is what SciPy finds.
    assert [line[0] for line in found.correlations.values()] == [1, 1]
    fresh = models.initialize(jax.random.split(KEY)[0], model, IMAGES)
    targets = net(IMAGES).argmax(-1)
    maps = [
        np.asarray(attribution.saliency(models.bind(model, weights), IMAGES, targets)) for weights in (variables, fresh)
    ]
    expected = np.mean(
        [stats.spearmanr(*pair).statistic for pair in zip(*(m.reshape(2, -1) for m in maps), strict=True)]
    )
    assert found.correlations["saliency"][-1] == pytest.approx(expected, abs=1e-3)
    figure = found.draw()
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == list(found.randomized)


def test_rank_correlation_by_hand():
    one, other = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]), np.array([[1.0, 3.0, 2.0], [5.0, 5.0, 5.0]])
    # Ranks 1 2 3 and 1 3 2: 1 - 6 * 2 / (3 * 8) = 0.5; a constant counts as 0.
    assert _rank_correlation(one, other) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ("grad-cam",)}, r"methods \['grad-cam'\]; there are saliency"),
        ({"layer": "third"}, "no layer matches 'third'"),
        ({"targets": [0]}, r"targets \(1,\)"),
        ({"targets": CHOSEN, "classes": ("a", "b")}, "2 classes are named; target 3 is beyond them"),
    ],
    ids=["method", "layer", "targets", "classes"],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        explain(KEY, net, IMAGES, **options)
