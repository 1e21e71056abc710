"""How alike the measures rank the runs: Spearman correlations of every two, clustered, as a map and as neighbours."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from gapbench.reports.figures import STYLE

if TYPE_CHECKING:
    from gapbench.evaluate.table import Table

NEGATIVE, POSITIVE = (0x2F, 0x6F, 0xD0), (0xD9, 0x72, 0x0F)
"""Blue and orange, told apart with any colour vision, on light ground and on dark."""
LEAST_RUNS = 5
"""Two measures that share fewer runs have no correlation."""


def rank_correlations(table: Table, keys: list[str]) -> pd.DataFrame:
    """Spearman's rho of every two measures, each times its declared sign, over the converged runs that both have.

    NaN where they share fewer than `LEAST_RUNS` runs, or one of them is constant on those.
    """
    kept = table.runs["converged"].astype(bool)
    signs = pd.Series({key: float(table.measures[key].sign) for key in keys})
    values = table.values.loc[kept, keys] * signs
    whole = values.columns[values.notna().all()]
    found = pd.DataFrame(np.nan, index=keys, columns=keys)
    if len(values) >= LEAST_RUNS and len(whole):
        # Where nothing is missing one product does for all; ranks are the same for every partner.
        ranks = values[whole].rank()
        varied = ranks.columns[ranks.nunique() > 1]
        if len(varied):
            found.loc[varied, varied] = np.corrcoef(ranks[varied].to_numpy(), rowvar=False).reshape(len(varied), -1)
    rest = [key for key in keys if key not in set(whole)]
    for key in rest:
        found[key] = found.loc[key] = [_spearman(values[key], values[other]) for other in keys]
    return pd.DataFrame(np.clip(found.to_numpy(), -1.0, 1.0), keys, keys)


def _spearman(first: pd.Series[float], second: pd.Series[float]) -> float:
    both = first.notna() & second.notna()
    if both.sum() < LEAST_RUNS:
        return np.nan
    ranks = first[both].rank().to_numpy(), second[both].rank().to_numpy()
    if any(np.ptp(one) == 0 for one in ranks):
        return np.nan
    return float(np.corrcoef(*ranks)[0, 1])


def known(correlations: pd.DataFrame) -> pd.DataFrame:
    """Without the measures that have a correlation with no other: the constant and the undefined."""
    others = correlations.notna().sum() - np.diagonal(correlations.notna())
    kept = list(correlations.columns[others > 0])
    return pd.DataFrame(correlations.loc[kept, kept])


def linkage(correlations: pd.DataFrame) -> np.ndarray:
    """Average linkage on the distance 1 − rho; an unknown correlation counts as none. For two measures or more."""
    from scipy.cluster.hierarchy import linkage as link
    from scipy.spatial.distance import squareform

    distance = 1.0 - correlations.fillna(0.0).to_numpy(copy=True)
    np.fill_diagonal(distance, 0.0)
    distance = np.maximum((distance + distance.T) / 2, 0.0)
    merged: np.ndarray = link(
        squareform(distance, checks=False), method="average", optimal_ordering=len(distance) < 400
    )
    return merged


def neighbours(correlations: pd.DataFrame, most: int = 5) -> Mapping[str, list[tuple[str, float]]]:
    """For each measure the others whose ranking is most alike or most opposed, by |rho|."""
    found = {}
    for key, row in correlations.iterrows():
        others = row.drop(index=key).dropna()
        order = others.abs().sort_values(ascending=False, kind="stable").index[:most]
        found[str(key)] = [(str(other), float(others[other])) for other in order]
    return found


def clustered(correlations: pd.DataFrame) -> pd.DataFrame:
    """The correlations in the order of their clusters."""
    from scipy.cluster.hierarchy import leaves_list

    order = leaves_list(linkage(correlations)) if len(correlations) > 1 else np.arange(len(correlations))
    return correlations.iloc[order, order]


def correlation_map(correlations: pd.DataFrame) -> Figure:
    """The clustered map with its tree: blue is opposed, orange alike, by depth of colour; drawn by seaborn.

    The colours are laid over the ground by their opacity, so that the same picture serves light and dark pages.
    """
    import seaborn
    from scipy.cluster.hierarchy import dendrogram

    ordered = clustered(correlations)
    count = len(ordered)
    # Rows as high as a line of small type, columns narrower, so that two hundred measures fit a page.
    across, down = max(3.0, 0.05 * count), max(0.5, 0.118 * count)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(across + 3.6, down))
        left, width = 0.6 / (across + 3.6), across / (across + 3.6)
        tree, axes = figure.add_axes((0, 0, left, 1)), figure.add_axes((left, 0, width, 1))
        seaborn.heatmap(
            ordered, vmin=-1, vmax=1, cmap=_diverging(), cbar=False, rasterized=True, ax=axes,
            xticklabels=False, yticklabels=list(ordered.index),
        )  # fmt: skip
        axes.yaxis.tick_right()
        axes.tick_params(axis="y", labelsize=6.5, length=0, pad=2, labelrotation=0)
        axes.set(xlabel="", ylabel="")
        if count > 1:
            drawn = dendrogram(linkage(correlations), no_plot=True)
            for places, heights in zip(drawn["icoord"], drawn["dcoord"]):
                # Leaves of a dendrogram stand at 5, 15, 25 …; rows of the map at 0.5, 1.5, 2.5 …
                tree.plot(-np.asarray(heights), np.asarray(places) / 10, color="#888888", linewidth=0.5)
        tree.set_ylim(count, 0)
        tree.axis("off")
    return figure


def _diverging() -> ListedColormap:
    opacity = np.abs(np.linspace(-1, 1, 201))
    base = np.where(np.linspace(-1, 1, 201)[:, None] < 0, NEGATIVE, POSITIVE) / 255
    return ListedColormap(np.column_stack([base, opacity**1.3]))


def packed(correlations: pd.DataFrame) -> dict[str, Any]:
    """The clustered correlations for a script: the names in order, and hundredths + 128 as bytes in base64; 0: none."""
    ordered = clustered(correlations)
    hundredths = np.rint(ordered.to_numpy() * 100)
    codes = np.where(np.isnan(hundredths), 0, np.nan_to_num(hundredths) + 128).astype(np.uint8)
    return {"names": list(ordered.index), "bytes": base64.b64encode(codes.tobytes()).decode()}
