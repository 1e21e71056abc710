"""Lanczos's method with full reorthogonalisation, on a basis that grows as it is asked for; mathematics only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Float
    from torch import Tensor

MOST_STEPS = 200

MOST_BYTES = 2**30
"""The basis takes at most this much memory: 200 vectors of 670,000 numbers."""

INVARIANT = 1e-14
"""A subspace counts as invariant where the next vector is shorter than this times the largest |Ritz value|."""


@dataclass(frozen=True)
class Ritz:
    """What some steps know of the spectrum: Ritz values, ascending, with the norms of their residuals.

    ``weights``: the squared components of the starting vector along the Ritz vectors, which add up to one; values and
    weights are the Gaussian quadrature of the starting vector's spectral measure. ``complete``: the subspace is
    invariant, so every value is an eigenvalue.
    """

    values: Float[Tensor, " steps"]
    residuals: Float[Tensor, " steps"]
    weights: Float[Tensor, " steps"]
    complete: bool

    def errors(self) -> Float[Tensor, " steps"]:
        """A bound on the error of each value: min(r, r²/gap), with the gap to the nearest other Ritz value."""
        if self.complete:
            return torch.zeros_like(self.values)
        edge = self.values.new_full((1,), torch.inf)
        apart = torch.cat([edge, self.values.diff(), edge])
        return torch.minimum(self.residuals, self.residuals.square() / torch.minimum(apart[:-1], apart[1:]))


class Lanczos:
    """The Krylov basis of a symmetric map on R^size from a random start, float64; it grows only where more is asked.

    The start is Gaussian, or with ``signs`` of random signs, which make traces by quadrature exact where A is diagonal.
    What a number of steps gives does not depend on how many have been taken, so those who share a basis see what they
    would see alone. Each new vector is orthogonalised twice (twice is enough): by the recurrence against the last two,
    which in exact arithmetic is all, and then against all others.
    Source: Paige 1971; Parlett, The Symmetric Eigenvalue Problem.
    """

    def __init__(
        self, product: Callable[[Tensor], Tensor], size: int, rng: torch.Generator, *, signs: bool = False
    ) -> None:
        self.product = product
        self.most = max(1, min(size, MOST_STEPS, MOST_BYTES // (8 * size)))
        self.size = size
        start = (
            torch.randint(2, (size,), generator=rng).double() * 2 - 1
            if signs
            else torch.randn(size, dtype=torch.float64, generator=rng)
        )
        self._basis = (start / torch.linalg.vector_norm(start))[None]
        self._image = torch.zeros(0)
        self._diagonal: list[float] = []
        self._beside: list[float] = []
        self._known: dict[int, Ritz] = {}

    def ritz(self, steps: int) -> Ritz:
        """What this many steps know, or fewer where a smaller subspace is invariant."""
        while len(self._diagonal) < min(steps, self.most) and not self._exhausted():
            self._step()
        steps = min(steps, len(self._diagonal))
        if steps not in self._known:
            tridiagonal = torch.diag(torch.tensor(self._diagonal[:steps], dtype=torch.float64))
            tridiagonal += torch.diag(torch.tensor(self._beside[: steps - 1], dtype=torch.float64), 1)
            values, vectors = torch.linalg.eigh(tridiagonal, UPLO="U")
            residuals = (self._beside[steps - 1] * vectors[-1]).abs()
            complete = steps == self.size or self._beside[steps - 1] <= INVARIANT * float(values.abs().max())
            self._known[steps] = Ritz(values, residuals, vectors[0].square(), complete)
        return self._known[steps]

    def until(self, enough: Callable[[Ritz], bool]) -> tuple[Ritz, bool]:
        """What the fewest steps know that are enough, and whether they are; the subspace may end, or the cap come."""
        steps = 1
        while True:
            ritz = self.ritz(steps)
            if ritz.complete or enough(ritz):
                return ritz, True
            if steps == self.most:
                return ritz, False
            steps += 1

    def _exhausted(self) -> bool:
        return bool(self._diagonal) and self.ritz(len(self._diagonal)).complete

    def _step(self) -> None:
        step = len(self._diagonal)
        if step:
            self._basis[step] = self._image / self._beside[-1]
        image = self.product(self._basis[step])
        self._diagonal.append(float(image @ self._basis[step]))
        image = image - self._diagonal[-1] * self._basis[step]
        if step:
            image.sub_(self._basis[step - 1], alpha=self._beside[-1])
        known = self._basis[: step + 1]
        image.addmv_(known.T, known @ image, alpha=-1)
        self._beside.append(float(torch.linalg.vector_norm(image)))
        self._image = image
        if step + 1 == len(self._basis) < self.most:
            room = min(self.most, 2 * len(self._basis)) - len(self._basis)
            self._basis = torch.cat([self._basis, torch.zeros(room, self.size, dtype=torch.float64)])
