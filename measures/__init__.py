"""Complexity measures: plain functions of the quantities of a trained network.

`MEASURES` and `QUANTITIES` are read-only mappings from name to entry. A new family is a new module, named here.
"""

from gapbench.measures import (
    capacity,
    controls,
    curvature,
    flatness,
    gauss_newton,
    hessian_spectrum,
    kernel,
    learning_coefficient,
    margins,
    norms,
    optimisation,
    pac_bayes,
    path,
    perturbation,
    quantities,
    sharpness,
    spectral,
    spectrum,
    tangent,
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
    perturbation,
    curvature,
    tangent,
    capacity,
    norms,
    spectral,
    margins,
    path,
    pac_bayes,
    sharpness,
    worst_case_radius,
    flatness,
    gauss_newton,
    hessian_spectrum,
    learning_coefficient,
    optimisation,
    kernel,
    spectrum,
    controls,
)

_SHARPNESS = (worst_case_radius, flatness, gauss_newton, hessian_spectrum, learning_coefficient)
"""These belong to the family of sharpness.py, which would otherwise be one long file."""

BUILT_IN = build(
    entry for module in _MODULES for entry in collect(module, "sharpness" if module in _SHARPNESS else None)
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
