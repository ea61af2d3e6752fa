"""Floor 4: what a network sees, where, and what it costs, for any JAX function.

Everything here is pure and takes a net first: `models.bind(model, variables)`, a trained run, or any function of
pictures; what needs no weights takes a Flax model too. Pictures are floats, or bytes (uint8), which become floats from
0 to 1. Results print as a table, draw themselves (`draw`), are saved (`save`) and show in a notebook.
"""

from cnnjax.analysis.attribution import (
    completeness_error,
    deconvolution,
    gradient,
    gradient_times_input,
    guided_backpropagation,
    integrated_gradients,
    saliency,
    smooth_grad,
)
from cnnjax.analysis.changes import Change, challenges
from cnnjax.analysis.class_activation import grad_cam, grad_cam_plus_plus
from cnnjax.analysis.context import Context, LayerContext, context
from cnnjax.analysis.cost import Cost, LayerCost, cost
from cnnjax.analysis.effective import EffectiveField, effective_receptive_field
from cnnjax.analysis.explanations import METHODS, Explanations, Method, SanityCheck, explain, sanity_check
from cnnjax.analysis.feature_maps import FeatureMaps, feature_maps, first_kernel
from cnnjax.analysis.invariance import Invariance, Response, equivariance_error, invariance
from cnnjax.analysis.layer_statistics import FeatureStatistics, LayerStatistics, feature_statistics
from cnnjax.analysis.maximization import activation_maximization
from cnnjax.analysis.occlusion import occlusion
from cnnjax.analysis.patches import Neighbours, Patch, TopPatches, nearest_examples, top_patches
from cnnjax.analysis.reach.fields import AxisField, LayerField
from cnnjax.analysis.receptive_field import ReceptiveFields, receptive_field
from cnnjax.analysis.sharing import LayerSharing, Sharing, parameter_sharing
from cnnjax.analysis.similarity import Similarity, cka, similarity
from cnnjax.analysis.summary import Summary, summary
from cnnjax.analysis.superposition import Superposition, superposition

__all__ = [
    "METHODS",
    "AxisField",
    "Change",
    "Context",
    "Cost",
    "EffectiveField",
    "Explanations",
    "FeatureMaps",
    "FeatureStatistics",
    "Invariance",
    "LayerContext",
    "LayerCost",
    "LayerField",
    "LayerSharing",
    "LayerStatistics",
    "Method",
    "Neighbours",
    "Patch",
    "ReceptiveFields",
    "Response",
    "SanityCheck",
    "Sharing",
    "Similarity",
    "Summary",
    "Superposition",
    "TopPatches",
    "activation_maximization",
    "challenges",
    "cka",
    "completeness_error",
    "context",
    "cost",
    "deconvolution",
    "effective_receptive_field",
    "equivariance_error",
    "explain",
    "feature_maps",
    "feature_statistics",
    "first_kernel",
    "grad_cam",
    "grad_cam_plus_plus",
    "gradient",
    "gradient_times_input",
    "guided_backpropagation",
    "integrated_gradients",
    "invariance",
    "nearest_examples",
    "occlusion",
    "parameter_sharing",
    "receptive_field",
    "saliency",
    "sanity_check",
    "similarity",
    "smooth_grad",
    "summary",
    "superposition",
    "top_patches",
]
