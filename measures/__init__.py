"""Complexity measures: plain functions of the quantities of a trained network.

`MEASURES` and `QUANTITIES` are read-only mappings from name to entry. A new family is a new module, named here.
"""

from gapbench.measures import (
    augmentations,
    capacity,
    compression,
    consistency,
    controls,
    curvature,
    features,
    flatness,
    gauss_newton,
    group_norms,
    held_out,
    hessian_spectrum,
    information,
    input_jacobians,
    interpolations,
    kernel,
    kernel_path,
    learning_coefficient,
    margins,
    mixtures,
    norms,
    optimisation,
    outputs,
    pac_bayes,
    path,
    path_gradients,
    path_operators,
    path_weights,
    perturbation,
    quantities,
    representations,
    reservoir,
    sharpness,
    size_independent,
    spectral,
    spectral_bounds,
    spectrum,
    stability,
    tangent,
    weight_statistics,
    worst_case_radius,
)
from gapbench.measures.registry import (
    Estimate,
    LayerSum,
    Undefined,
    build,
    collect,
    measure,
    per_sample,
    quantity,
    variants,
)

_MODULES = (
    quantities,
    outputs,
    perturbation,
    curvature,
    tangent,
    features,
    representations,
    mixtures,
    augmentations,
    interpolations,
    input_jacobians,
    capacity,
    norms,
    spectral,
    margins,
    path,
    pac_bayes,
    sharpness,
    optimisation,
    kernel,
    kernel_path,
    held_out,
    path_gradients,
    path_operators,
    reservoir,
    spectrum,
    information,
    consistency,
    stability,
    weight_statistics,
    controls,
)

_PARTS = (
    (group_norms, "norms"),
    (size_independent, "norms"),
    (spectral_bounds, "spectral"),
    (worst_case_radius, "sharpness"),
    (flatness, "sharpness"),
    (gauss_newton, "sharpness"),
    (hessian_spectrum, "sharpness"),
    (learning_coefficient, "sharpness"),
    (compression, "information"),
    (path_weights, "reservoir"),
)
"""Further files of a family that has a file of its own name."""

BUILT_IN = build(
    [
        *(entry for module in _MODULES for entry in collect(module)),
        *(entry for module, family in _PARTS for entry in collect(module, family)),
    ]
)
MEASURES = BUILT_IN.measures
QUANTITIES = BUILT_IN.quantities

__all__ = [
    "BUILT_IN",
    "MEASURES",
    "QUANTITIES",
    "Estimate",
    "LayerSum",
    "Undefined",
    "measure",
    "per_sample",
    "quantity",
    "variants",
]
