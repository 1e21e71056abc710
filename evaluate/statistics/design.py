"""The experimental design of a zoo: which runs are equal in what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gapbench.datasets.errors import InputError, unknown


@dataclass(frozen=True)
class Design:
    """The runs as points of the design.

    A *recipe* is everything but the label noise and the seed; a *configuration* is everything but the seed. ``codes``
    (runs, axes) numbers the values of each axis; ``recipe`` (runs,) lies in [0, recipes); ``level`` (runs,) numbers the
    label noises, ascending in ``noises``; ``seed`` (runs,) numbers the seeds; ``replicate`` (runs,) numbers the seeds
    of each recipe from 0, in the same order, without holes where recipes have different seeds.
    """

    axes: tuple[str, ...]
    codes: NDArray[np.int64]
    recipe: NDArray[np.int64]
    level: NDArray[np.int64]
    seed: NDArray[np.int64]
    replicate: NDArray[np.int64]
    recipes: int
    noises: tuple[float, ...]

    @classmethod
    def of(cls, runs: pd.DataFrame, axes: Sequence[str]) -> Design:
        """The design of these runs (one row each); columns "label_noise" and "seed" may be absent.

        Raises: InputError where an axis is no column, or two runs are equal in every axis, label noise and seed.
        """
        for axis in axes:
            if axis not in runs.columns:
                raise unknown("axis", axis, map(str, runs.columns))
        columns = [pd.factorize(runs[axis], use_na_sentinel=False)[0] for axis in axes]
        codes = np.stack(columns, axis=1).astype(np.int64) if columns else np.zeros((len(runs), 0), np.int64)
        recipe = rows_as_codes(codes)
        noise = runs["label_noise"].to_numpy(float) if "label_noise" in runs.columns else np.zeros(len(runs))
        noises, level = np.unique(noise, return_inverse=True)
        design = pd.DataFrame({"recipe": recipe, "level": level})
        design["seed"] = (
            runs["seed"].to_numpy() if "seed" in runs.columns else design.groupby(["recipe", "level"]).cumcount()
        )
        repeated = design.duplicated().to_numpy()
        if repeated.any():
            same = (design == design[repeated].iloc[0]).all(axis=1).to_numpy()
            names = ", ".join(str(name) for name in runs.index[same][:3])
            raise InputError(
                f"runs {names} are equal in every axis ({', '.join(axes) or 'there is none'}), label noise and seed; "
                "name the column in which they differ as an axis, or keep one of them"
            )
        seed = pd.factorize(design["seed"], sort=True)[0].astype(np.int64)
        replicate = design.groupby("recipe")["seed"].rank(method="dense").to_numpy().astype(np.int64) - 1
        recipes = int(recipe.max(initial=-1)) + 1
        return cls(
            tuple(axes), codes, recipe, level.astype(np.int64), seed, replicate, recipes, tuple(map(float, noises))
        )

    def __len__(self) -> int:
        return len(self.recipe)

    def take(self, rows: NDArray[np.bool_]) -> Design:
        """The same design for some of the runs; recipes and noises keep their numbers."""
        return replace(
            self,
            codes=self.codes[rows],
            recipe=self.recipe[rows],
            level=self.level[rows],
            seed=self.seed[rows],
            replicate=self.replicate[rows],
        )


def rows_as_codes(columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number for each distinct row (rows, columns) -> (rows,), in lexicographic order."""
    if columns.shape[1] == 0:
        return np.zeros(len(columns), np.int64)
    _, numbers = np.unique(columns, axis=0, return_inverse=True)
    return numbers.reshape(-1).astype(np.int64)
