import numpy as np
import pytest
from matplotlib.patches import Rectangle

from cnnjax.view import figures
from cnnjax.view.field_figures import FieldBox, receptive_fields


def field_of(axes):
    (patch,) = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    return (*patch.get_xy(), patch.get_width(), patch.get_height())


class TestReceptiveFields:
    boxes = (
        FieldBox("C1", 13, 14, 17, 18, "5x5, stride 1"),
        FieldBox("C3", 9, 8, 22, 21, "14x14, stride 2"),
        FieldBox("C7", -4, -6, 40, 38, "45x45, stride 8"),
    )

    def test_every_layer_has_a_panel_with_its_field(self):
        image = np.zeros((32, 32, 1), np.uint8)
        together, *panels = receptive_fields(image, self.boxes, title="LeNet").axes
        expected = [(13.5, 12.5, 5, 5), (7.5, 8.5, 14, 14), (-6.5, -4.5, 45, 45)]
        assert [field_of(axes) for axes in panels] == expected
        assert [(*p.get_xy(), p.get_width(), p.get_height()) for p in together.patches] == expected
        assert [axes.get_title("center") for axes in panels] == [f"{b.name}\n{b.size_text}" for b in self.boxes]
        assert [text.get_text() for text in together.get_legend().get_texts()] == ["C1", "C3", "C7"]
        assert len({patch.get_edgecolor() for patch in together.patches}) == 3

    def test_padding_around_the_image_is_visible(self):
        for axes in receptive_fields(np.zeros((32, 32)), self.boxes, title="LeNet").axes:
            (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
            assert left < -6.5
            assert right > 38.5
            assert top < -4.5
            assert bottom > 40.5

    def test_outside_of_the_field_is_faded(self):
        image = np.zeros((32, 32, 3), np.float32)
        _, panel, *_ = receptive_fields(image, self.boxes, title="LeNet").axes
        faded, lit = panel.images
        assert np.min(faded.get_array()) >= 0.5
        assert np.max(lit.get_array()) == 0
        corners = panel.transData.transform([(13.5, 17.5), (18.5, 12.5)])
        np.testing.assert_allclose(lit.get_clip_box().get_points(), corners)

    def test_many_layers_keep_the_first_and_the_last(self):
        boxes = [FieldBox(f"layer{i}", 16 - i, 16 - i, 16 + i, 16 + i) for i in range(30)]
        figure = receptive_fields(np.zeros((32, 32)), boxes, title="deep")
        names = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        assert len(figure.axes) == 13
        assert (names[0], names[-1]) == ("layer0", "layer29")
        assert figure.get_suptitle() == "deep (12 of 30 layers)"
        looks = {(p.get_edgecolor(), str(p.get_linestyle())) for p in figure.axes[0].patches}
        assert len(looks) == 12

    def test_names_are_not_read_as_formulas(self):
        boxes = [FieldBox("$x^{", 0, 0, 1, 1, "$"), FieldBox("_hidden", 0, 0, 2, 2)]
        assert figures.png(receptive_fields(np.zeros((4, 4)), boxes, title="$"))

    def test_no_boxes_raise(self):
        with pytest.raises(ValueError, match="boxes: 0"):
            receptive_fields(np.zeros((4, 4)), [], title="none")
