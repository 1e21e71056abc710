"""Tables as each phenomenon would leave them: one where it is there, and one where it is not."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy
import pandas

from gapbench.evaluate.phenomena import benign_overfitting as benign
from gapbench.evaluate.phenomena import double_descent as descent
from gapbench.evaluate.phenomena import (
    grokking,
    implicit_bias,
    information_plane,
    lottery_ticket,
    randomisation,
    regularisers,
)
from gapbench.evaluate.phenomena import memorisation_order as order
from gapbench.evaluate.phenomena import minimum_norm_kernel as kernel
from gapbench.evaluate.phenomena import uniform_convergence_fails as uniform
from gapbench.evaluate.phenomena import weights_predict_accuracy as weights
from gapbench.evaluate.phenomena.bench import MEASURE

SEEDS = range(5)
RNG = numpy.random.default_rng(0)
Rows = list[dict[str, Any]]


def noise(size: float = 0.01) -> float:
    return float(size * RNG.normal())


def expressivity(there: bool) -> Rows:
    return [
        {
            "n": n,
            "d": d,
            "weights": 2 * n + d,
            "theorem": 2 * n + d,
            "train_error": 0.0 if there else 1 / n,
            "residual": 1e-12,
        }
        for n, d in itertools.product((10, 2000), (1, 50))
    ]


def double_descent(there: bool) -> Rows:
    rows: Rows = []
    grid = (4, 10, 20, 30, 40, 50, 80, 160)
    for part, along in ((descent.FEATURES, "p"), (descent.SAMPLES, "n")):
        for seed, place in itertools.product(range(30), grid):
            peak = 10 * numpy.exp(-((place - 40) ** 2) / 50) if there else 0.1 * numpy.log(place)
            risk = 1 + float(peak) + noise()
            fixed = {"p": 40, "n": 40, along: place}
            ridge = 1 / (place + 10) if there else risk
            rows.append(
                {"part": part, "seed": seed, **fixed, "risk": risk, "ridge_risk": ridge, "closed_form": risk - noise()}
            )
    curve = (0.6, 0.3, 0.2, 0.5, 0.7, 0.4, 0.2) if there else (0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
    for part, along, what in (
        (descent.WIDTH, "width", "test_error"),
        (descent.EPOCHS, "epoch", "test_error"),
        (descent.STEPS, "step", "risk"),
    ):
        for seed, (place, height) in itertools.product(SEEDS, enumerate(curve, 1)):
            row = {"part": part, "seed": seed, along: 2**place, what: height + noise(), "train_error": 0.5 / place**3}
            rows.append(row)
    return rows


def benign_overfitting(there: bool) -> Rows:
    theory = {benign.BENIGN: 0.1, "power 1, 40 n": 0.3, "isotropic, 3 n": 0.5, benign.ISOTROPIC: 0.8}
    excess = {name: 3 * rate**1.5 for name, rate in theory.items()}
    excess[benign.ISOTROPIC] = 4.0
    rows = []
    for seed, (name, rate) in itertools.product(SEEDS, theory.items()):
        height = excess[name] + noise() if there else 1.5 + noise(0.5)
        rows.append(
            {
                "spectrum": name,
                "seed": seed,
                "theory": rate,
                "noise_excess": height,
                "residual": 1e-12,
                "k_star": 3,
                "n": 100,
            }
        )
    return rows


def implicit(there: bool) -> Rows:
    rows: Rows = []
    for seed in SEEDS:
        for step in (100, 1000, 10_000):
            angle = 20 / numpy.log10(step) ** 2 if there else 20.0
            row = {"step": step, "angle": float(angle) + noise(), "angle_to_means": 20 + noise()}
            rows.append({"part": implicit_bias.MARGIN, "seed": seed, **row})
        for start, norm, error in ((implicit_bias.SMALL, 10, 0.01), (implicit_bias.LARGE, 20, 0.5)):
            found = {
                "nuclear_norm": norm + noise(),
                "least_nuclear_norm": 10.0,
                "true_nuclear_norm": 10.0,
                "least_unseen_error": 0.1,
            }
            rows.append({"part": implicit_bias.MATRIX, "start": start, "seed": seed, **found, "unseen_error": error})
    return rows


def sample_complexity(there: bool) -> Rows:
    rows: Rows = []
    for seed, n in itertools.product(SEEDS, (16, 64, 256, 1024)):
        own = (8 / n) ** 0.5 if there else 0.3
        for network, error, count in (("filter", own, 8), ("fully connected", 2.8 * (8 / n) ** 0.5, 64)):
            row = {"network": network, "inputs": 64, "weights": count, "root_excess": error * (1 + noise(0.05))}
            rows.append({"n": n, "seed": seed, **row})
    return rows


def minimum_norm_kernel(there: bool) -> Rows:
    rows: Rows = []
    for seed, n, kind in itertools.product(SEEDS, (1000, 4000), (kernel.PIXELS, kernel.WAVELETS)):
        better = kind == kernel.WAVELETS
        error = (0.5 if better else 1.0) * (2.0 * n**-0.48 if there else 0.1) * (1 + noise(0.02))
        norm = n**0.5 * (1.5 if better else 1.0) * (1 + noise(0.02))
        rows.append({"n": n, "features": kind, "seed": seed, "train_error": 0.0, "test_error": error, "norm": norm})
    return rows


def uniform_convergence_fails(there: bool) -> Rows:
    rows: Rows = []
    for seed, n in itertools.product(SEEDS, (128, 512, 2048)):
        grows = (n**0.4 if there else n**-0.4) * (1 + noise(0.05))
        found = {"spectral_bound": grows, "pac_bayes_bound": grows, "distance": grows}
        gap = n**-0.4 * (1 + noise(0.05))
        rows.append({"part": uniform.NETWORK, "n": n, "seed": seed, **found, "gap": gap, "test_error": gap})
        mirrored = 1.0 if there else 0.5
        linear = {"train_error": 0.0, "mirrored_error": mirrored + noise(1e-4), "test_error": 1e-3 + noise(1e-5)}
        rows.append({"part": uniform.LINEAR, "n": n, "seed": seed, **linear})
    return rows


def grokked(there: bool) -> Rows:
    rows: Rows = []
    for name, seed, step in itertools.product(grokking.OPTIMISERS, SEEDS, range(10, 2000, 10)):
        late = (200 if name == grokking.SOFT else 1000) + 20 * seed if there else 60 + 10 * seed
        row = {"train_accuracy": float(step >= 50), "test_accuracy": float(step >= late)}
        rows.append({"optimiser": name, "seed": seed, "step": step, **row})
    return rows


def randomised(there: bool) -> Rows:
    rows: Rows = []
    for network, kind, seed in itertools.product(("MLP", "CNN"), randomisation.RANDOMISATIONS, SEEDS):
        changes = randomisation.RANDOMISATIONS[kind]
        level = changes.get("label_noise", 0.0) if "pixels" not in changes else None
        later = 2.0 if kind == randomisation.RANDOM and there else 1.0
        test = 0.3 + 0.6 * (level or 0.0) + noise()
        row = {"corruption": level, "test_error": test, "epochs_to_fit": 20 * later + seed, "train_error": 0.0}
        rows.append({"network": network, "randomisation": kind, "seed": seed, **row})
    rows += [
        {
            **rows[0],
            "corruption": level,
            "randomisation": f"p {level}",
            "seed": seed,
            "network": network,
            "test_error": 0.3 + 0.6 * level + noise(),
        }
        for network in ("MLP", "CNN")
        for level in (0.25, 0.75)
        for seed in SEEDS
    ]
    return rows


def regularised(there: bool) -> Rows:
    rows: Rows = []
    for name, labels, seed in itertools.product(regularisers.REGULARISERS, ("true", "random"), SEEDS):
        accuracy = 0.9 if there or name != regularisers.NONE else 0.5
        row = {"accuracy": accuracy + noise(), "train_error": 0.0, "test_error": 1 - accuracy}
        rows.append({"regulariser": name, "labels": labels, "seed": seed, **row})
    return rows


def memorisation(there: bool) -> Rows:
    rows: Rows = []
    for kind, seed in itertools.product(order.KINDS, SEEDS):
        real = 0.2 * (kind == order.REAL) * there
        row = {
            "easiness_spread": real + noise(),
            "sensitivity_gini": 0.3 + real + noise(),
            "critical_samples": 0.5 - real + noise(),
            "right_first": 0.3 + noise() if kind == order.NOISY else None,
        }
        rows.append({"data": kind, "seed": seed, "moment": "end", **row})
    return rows


def ticket(there: bool) -> Rows:
    rows: Rows = []
    for seed, (number, left) in itertools.product(SEEDS, enumerate((1.0, 0.1, 0.04))):
        for kind in (lottery_ticket.TICKET, lottery_ticket.NEW) if number else (lottery_ticket.WHOLE,):
            worse = 0.1 * number if kind == lottery_ticket.NEW and there else 0.0
            row = {"kind": kind, "accuracy": 0.95 - worse + noise(0.002)}
            rows.append({"seed": seed, "round": number, "left": left, **row})
    return rows


def robustness(there: bool) -> Rows:
    rows: Rows = []
    for seed, p in itertools.product(SEEDS, (100, 1000, 10_000)):
        slope = 100 * p**-0.5 if there else 5.0
        row = {"lipschitz": slope * (1 + noise(0.05)), "law": 44 * p**-0.5, "interpolates": True}
        rows.append({"parameters": p, "seed": seed, **row})
    return rows


def bias_and_variance(there: bool) -> Rows:
    rows: Rows = []
    for seed, width in itertools.product(SEEDS, (8, 32, 128, 512)):
        falls = width**-0.3 if there else width**0.3
        parts = {"variance": falls, "variance_start": falls, "variance_sample": 0.2, "bias": 0.3}
        rows.append({"width": width, "seed": seed, **{k: v * (1 + noise(0.02)) for k, v in parts.items()}})
    return rows


def plane(there: bool) -> Rows:
    rows: Rows = []
    names = (information_plane.TANH, information_plane.RELU)
    for name, seed, epoch in itertools.product(names, SEEDS, range(6)):
        compressed = 1.0 * (epoch - 3) if there and name == information_plane.TANH and epoch > 3 else 0.0
        rows.append(
            {"activation": name, "seed": seed, "epoch": epoch, "last": True, "input_bits": 8 - compressed + noise()}
        )
    return rows


def vc(there: bool) -> Rows:
    rows: Rows = []
    for seed, p in itertools.product(SEEDS, (20, 100, 200, 300, 400, 500, 700, 1000, 2000)):
        error = 0.1 + 50 / (abs(p - 300) + 100) * (0.6 if p < 300 else 1.0) + noise(1e-4)
        norm = 3 * error if there else 0.001 * p
        rows.append(
            {
                "features": p,
                "seed": seed,
                "n": 300,
                "test_error": error,
                "squared_norm": norm,
                "parameters": 74 * p,
                f"{MEASURE}output_weight_vc": min(norm, p) + 1,
                f"{MEASURE}vc_gap_bound": 0.5 * norm,
            }
        )
    return rows


def from_weights(there: bool) -> Rows:
    rows: Rows = []
    for number in range(150):
        features = {f"{MEASURE}{key}": float(RNG.normal()) for key in weights.FEATURES}
        signal = features[f"{MEASURE}{weights.FEATURES[0]}"] if there else float(RNG.normal())
        rows.append({"network": number, "accuracy": 0.5 + 0.1 * signal, **features})
    return rows


TABLES: dict[str, Callable[[bool], Rows]] = {
    "expressivity": expressivity,
    "double_descent": double_descent,
    "benign_overfitting": benign_overfitting,
    "implicit_bias": implicit,
    "sample_complexity": sample_complexity,
    "minimum_norm_kernel": minimum_norm_kernel,
    "uniform_convergence_fails": uniform_convergence_fails,
    "grokking": grokked,
    "randomisation": randomised,
    "regularisers": regularised,
    "memorisation_order": memorisation,
    "lottery_ticket": ticket,
    "robustness_law": robustness,
    "bias_variance": bias_and_variance,
    "information_plane": plane,
    "vc_second_descent": vc,
    "weights_predict_accuracy": from_weights,
}


def table(name: str, there: bool) -> pandas.DataFrame:
    """The planted table of a phenomenon, where it is there or not."""
    return pandas.DataFrame(TABLES[name](there))
