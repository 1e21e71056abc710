"""What is fitted to the gap itself: predictors by features of the network, and the gap with noise as a control."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gapbench.evaluate.declared import Declared
from gapbench.evaluate.statistics.design import Design

if TYPE_CHECKING:
    from gapbench.evaluate.table import Table

Floats = NDArray[np.float64]

FOLDS = 5
ORACLE_NOISE = 0.5

_FITTED = """The gap as {} predicts it from statistics of the weights, on recipes it was not fitted to.

Formula: the runs are dealt into {} folds by whole recipes, so that seeds and other labels of a recipe are together; the
gap of each fold is predicted by a fit to the features and gaps of the others. Runs that did not converge, or on which a
feature is undefined, are left out of both. {}
It has seen gaps, which no measure may, so it is listed apart and not ranked. Its null band takes its predictions as
given: that a fit which finds nothing predicts slightly less where the truth is larger, is not in it.
Sign: it predicts the gap.
"""
_BOOSTED = "Gradient-boosted trees (100 of depth 3, squared error, rate 0.1), as in the paper but for the library."
_LINEAR = "Ridge regression (penalty 1) on features standardised over the training folds."
_ORACLE = f"""The gap itself plus Gaussian noise of {ORACLE_NOISE:g} times its own spread within a label noise.

Formula: gap + {ORACLE_NOISE:g}·s·ε, ε standard normal, s the root of the mean square of the gap about the mean of its
label noise, over the runs that converged. It shows what a measure scores whose correlation with the gap within a label
noise is 1/√(1 + {ORACLE_NOISE:g}²).
Raises: nothing. Sign: it is the gap.
"""


def with_predictors(table: Table, *, target: str = "error_gap", seed: int = 0) -> Table:
    """The table with columns that know the target: the predictors and the control `oracle_noisy`.

    The predictors are added where the table has features, the control where it has controls: a choice of measures
    without them gets neither. A target that is no column is left to `leaderboard` to refuse.
    """
    entries = table.measures.values()
    if target not in table.runs.columns:
        return table
    added: dict[str, tuple[Declared, Floats, str]] = {}
    features = [key for key, entry in table.measures.items() if entry.feature]
    if features:
        for name, (model, documentation) in _models(seed).items():
            values, reason = _predictions(table, features, target, model)
            added[name] = (_declared(name, "unterthiner2020", documentation, control=False), values, reason)
    if any(entry.control for entry in entries):
        documented = _declared("oracle_noisy", "unpublished", _ORACLE, control=True)
        added["oracle_noisy"] = (documented, _oracle(table, target, seed), "the gap of this run is not finite")
    return _extended(table, added)


def _models(seed: int) -> Mapping[str, tuple[Callable[[], Any], str]]:
    def boosted() -> Any:
        from sklearn.ensemble import GradientBoostingRegressor

        return GradientBoostingRegressor(random_state=seed)

    def linear() -> Any:
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        return make_pipeline(StandardScaler(), Ridge())

    return {
        "predictor_boosted_trees": (boosted, _FITTED.format("a boosted regression", FOLDS, _BOOSTED)),
        "predictor_linear": (linear, _FITTED.format("a linear regression", FOLDS, _LINEAR)),
    }


def _predictions(table: Table, features: list[str], target: str, model: Callable[[], Any]) -> tuple[Floats, str]:
    """The out-of-fold predictions of every run, NaN where there is none, and why there is none."""
    from sklearn.model_selection import GroupKFold

    inputs = table.values[features].to_numpy(np.float64)
    gap = table.runs[target].to_numpy(np.float64)
    usable = table.runs["converged"].to_numpy(bool) & np.isfinite(gap) & np.isfinite(inputs).all(axis=1)
    recipes = Design.of(table.runs[usable], table.axes).recipe
    predictions = np.full(len(gap), np.nan)
    folds = min(FOLDS, len(np.unique(recipes)))
    if folds < 2:
        return predictions, "a predictor needs two recipes whose runs converged and have every feature"
    rows = np.flatnonzero(usable)
    for fitted, left in GroupKFold(folds).split(rows, groups=recipes):
        fit = model().fit(inputs[rows[fitted]], gap[rows[fitted]])
        predictions[rows[left]] = fit.predict(inputs[rows[left]])
    return predictions, "the run did not converge, or a feature is undefined on it"


def _oracle(table: Table, target: str, seed: int) -> Floats:
    gap = table.runs[target]
    kept = gap[table.runs["converged"] & np.isfinite(gap)]
    within = kept - kept.groupby(table.runs["label_noise"]).transform("mean")
    noise = np.random.default_rng([seed, 5]).standard_normal(len(gap))
    noisy: Floats = gap.to_numpy(np.float64) + ORACLE_NOISE * float(np.sqrt(within.pow(2).mean())) * noise
    return noisy


def _declared(name: str, source: str, documentation: str, *, control: bool) -> Declared:
    family = "controls" if control else "predictors"
    entry = Declared(name, name, family, source, 1, 1, "", control=control, predictor=not control)
    return dataclasses.replace(entry, documentation=documentation.strip())


def _extended(table: Table, added: Mapping[str, tuple[Declared, Floats, str]]) -> Table:
    values, readings = table.values.copy(), [table.readings]
    for key, (entry, column, reason) in added.items():
        known = np.isfinite(column)
        values[key] = np.where(known, column, np.nan)
        rows = {"run": table.runs.index, "measure": key, "revision": entry.revision, "value": values[key].to_numpy()}
        status = np.where(known, "ok", "undefined")
        made = pd.DataFrame({**rows, "standard_error": 0.0, "status": status, "seconds": 0.0})
        readings.append(made.assign(reason=np.where(known, "", reason)))
    return dataclasses.replace(
        table,
        values=values,
        readings=pd.concat(readings, ignore_index=True),
        measures={**table.measures, **{key: entry for key, (entry, _, _) in added.items()}},
    )
