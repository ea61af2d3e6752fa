"""Fast R-CNN: one pass over the picture, then a look at each proposal on its map.

Reference: Girshick (2015), "Fast R-CNN", section 2 and figure 1.
"""

from cnnjax.models.parts.given_proposals import GivenProposals
from cnnjax.models.parts.two_stage import SMALL
from cnnjax.models.registry import register


class FastRCNN(GivenProposals):
    """Fast R-CNN: proposals from elsewhere, RoIPool on one map of stride 16, VGG's fc6 and fc7, class and box.

    134,690,729 parameters at 20 classes.
    """


register("fast_rcnn", FastRCNN, (608, 1008, 3), logits_of="boxes", backbone="vgg16")
register(
    "fast_rcnn_small",
    FastRCNN,
    (128, 128, 3),
    logits_of="boxes",
    stride=8,
    **{name: value for name, value in SMALL.items() if name != "drawn_anchors"},
)
