"""Complexity measures: plain functions of the quantities of a trained network.

`MEASURES` and `QUANTITIES` are read-only mappings from name to entry. A new family is a new module, named here.
"""

from gapbench.measures import (
    capacity,
    controls,
    curvature,
    features,
    held_out,
    kernel,
    kernel_path,
    margins,
    norms,
    optimisation,
    pac_bayes,
    path,
    path_gradients,
    path_operators,
    perturbation,
    quantities,
    reservoir,
    sharpness,
    spectral,
    spectrum,
    stability,
    tangent,
    weight_statistics,
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
    perturbation,
    curvature,
    tangent,
    features,
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
    stability,
    weight_statistics,
    controls,
)

BUILT_IN = build(entry for module in _MODULES for entry in collect(module))
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
