"""The bench that a phenomenon works at: data, training, readings and randomness, all of one seed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from torch import nn

from gapbench.datasets.load import load
from gapbench.datasets.seeds import derive_seed, generator
from gapbench.datasets.spec import DataSpec, Split
from gapbench.measures import BUILT_IN
from gapbench.measures.read import read
from gapbench.models.spec import RunSpec
from gapbench.models.train import train
from gapbench.models.trained import Outcome, Trained

MEASURE = "measure:"
"""The prefix of the columns that hold readings."""

FOLLOWED = (
    "num_params",
    "param_norm",
    "frobenius_distance",
    "log_prod_spectral",
    "log_prod_frobenius",
    "path_norm",
    "inverse_margin",
    "log_prod_spectral_over_margin",
    "path_norm_over_margin",
    "output_weight_vc",
    "effective_rank",
    "weight_entropy",
    "train_cross_entropy",
    "fisher_rao",
    "class_compactness",
    "intrinsic_dimension",
    "feature_benign_rank_R",
    "input_gradient_norm",
    "geometric_complexity",
    "gradient_norm",
    "critical_sample_ratio",
    "mixup_margin",
)
"""The measures that are read along a sweep: cheap ones, of every family that has any."""


@dataclass(frozen=True)
class Bench:
    """Data, training, readings and generators for one phenomenon under one root seed."""

    name: str
    seed: int = 0
    data_dir: Path | None = None

    def derived(self, *names: str | int) -> int:
        """A seed for the stream ``names`` of this phenomenon that fits 32 bits."""
        return derive_seed(self.seed, "phenomenon", self.name, *names) % 2**32

    def generator(self, *names: str | int) -> torch.Generator:
        """A torch generator of the stream ``names``."""
        return generator(self.seed, "phenomenon", self.name, *names)

    def rng(self, *names: str | int) -> numpy.random.Generator:
        """A numpy generator of the stream ``names``."""
        return numpy.random.default_rng(derive_seed(self.seed, "phenomenon", self.name, *names))

    def load(self, spec: DataSpec) -> tuple[Split, Split]:
        """The training and test samples of a spec."""
        return load(spec, self.data_dir)

    def train(
        self,
        spec: RunSpec,
        data: tuple[Split, Split] | None = None,
        *,
        trajectory_epochs: Collection[int] = (),
    ) -> tuple[Trained, Outcome]:
        """Train the network of a spec, on its own data unless other data are given; on one thread."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            trained, outcome, _ = train(
                spec, data if data is not None else self.load(spec.data), trajectory_epochs=trajectory_epochs
            )
        finally:
            torch.set_num_threads(threads)
        return trained, outcome

    def read(self, trained: Trained, keys: Sequence[str] = FOLLOWED) -> dict[str, float]:
        """The values of these measures on one network, by "measure:KEY"; those without a value are left out.

        Raises: RuntimeError where a measure failed (undefined is not failed).
        """
        readings = read([BUILT_IN.measures[key] for key in keys], BUILT_IN, trained, seed=self.derived("read"))
        failed = [reading for reading in readings if reading.status == "failed"]
        if failed:
            raise RuntimeError(f"{failed[0].measure} failed on a network of {self.name}: {failed[0].reason}")
        return {f"{MEASURE}{reading.measure}": reading.value for reading in readings if reading.value is not None}


def outputs(network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """The outputs of a network in evaluation mode, in batches, float64."""
    network.eval()
    with torch.inference_mode():
        return torch.cat([network(batch) for batch in torch.split(inputs, 2000)]).double()


def error(network: nn.Module, sample: Split) -> float:
    """The share of a sample that a network classifies wrongly."""
    return float((outputs(network, sample.inputs).argmax(dim=1) != sample.labels).double().mean())
