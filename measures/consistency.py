"""Measures of how consistently a network treats its training data: their classes, their mixtures, what is near them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softmax

from gapbench.datasets.spec import Split
from gapbench.measures.adversaries import flipped
from gapbench.measures.augmentations import input_spread
from gapbench.measures.draws import over_draws
from gapbench.measures.registry import Estimate, Undefined, measure, variants
from gapbench.measures.representations import (
    NEIGHBOURHOOD_EXAMPLES,
    davies_bouldin_index,
    label_variation,
    two_nn,
    within_over_between,
)

ADVERSARIAL_EXAMPLES = 100
"""Adversarial points are sought around this many training examples, the first ones: their order is random."""

_CLASSES = ("unit_permutation", "example_permutation", "example_duplication", "input_rotation")
_FUNCTION = ("rescaling", "unit_permutation", "input_rotation")


@measure(source="natekar2020, Davies–Bouldin index; davies1979", sign=+1, invariances=_CLASSES)
def davies_bouldin(features: Float[Tensor, "examples features"], train: Split) -> float:
    """The Davies–Bouldin index of the classes in the last hidden layer.

    Formula: (1/C) Σ_c max_{c'≠c} (s_c + s_c')/‖μ_c − μ_c'‖₂, μ_c the mean of class c in what enters the last weight
    layer, s_c the mean distance to it; C classes, those of the training labels.
    Raises: Undefined where all labels are one, two classes have one mean, or the last weight layer is not linear.
    Sign: classes that are wide beside their distance are poorly separated.
    """
    return davies_bouldin_index(features, train.labels)


@measure(source="natekar2020, mixup performance", sign=-1, invariances=_FUNCTION)
def mixup_accuracy(mixup_margins: Float[Tensor, "draws examples"]) -> Estimate:
    """The share of points half-way between two training examples of one label that are given this label.

    Formula: mean of 1[argmax f((x_i + x_k)/2) = y_i], y_k = y_i, several partners k for each of the first 250 examples.
    The published code takes all pairs in batches of 10·C examples and the mean over classes; here the mean is over
    examples, so that a class counts by its size. Raises: Undefined where no two examples share a label.
    Sign: a network that is consistent between examples of a class is simple there.
    """
    return over_draws((mixup_margins > 0).double())


@measure(source="natekar2020, winning entry", sign=+1, invariances=("unit_permutation",))
def dbi_times_mixup(
    first_features: Float[Tensor, "first features"], mixup_margins: Float[Tensor, "draws paired"], train: Split
) -> Estimate:
    """The Davies–Bouldin index of the first hidden layer times the error on mixtures within classes.

    Formula: DBI · (1 − `mixup_accuracy`), as in the published code of the entry that won the competition of 2020: the
    index is that of the *first* hidden layer, maps max-pooled 4 x 4 (not of the last one: see `davies_bouldin`). The
    code averages it over batches of 120 examples; here it is of the first 250 examples at once.
    Raises: Undefined where either factor is, or there is no hidden layer.
    Sign: both factors grow as classes come apart and hang together less.
    """
    index = davies_bouldin_index(first_features, train.labels[: len(first_features)])
    accuracy = over_draws((mixup_margins > 0).double())
    return Estimate(index * (1 - accuracy.value), index * accuracy.standard_error)


@measure(source="natekar2020, manifold mixup performance; verma2019", sign=-1, invariances=_FUNCTION)
def manifold_mixup_accuracy(manifold_mixup_margins: Float[Tensor, "draws examples"]) -> Estimate:
    """The share of points half-way between training examples of one label, in the first hidden layer, given this label.

    Formula: that of `mixup_accuracy`, with the two examples mixed in what enters the second weight layer (activations;
    the published code mixes them before the activation).
    Raises: Undefined where no two examples share a label, or no hidden layer sees all that is passed on.
    Sign: a network that is consistent between examples of a class is simple there.
    """
    return over_draws((manifold_mixup_margins > 0).double())


@measure(
    source="lassance2020, label variation",
    sign=+1,
    invariances=("unit_permutation", "input_rotation"),
)
def graph_variation(features: Float[Tensor, "examples features"], train: Split, *, neighbours: int = 5) -> float:
    """The share of the edges of the neighbour graph of the last hidden layer that join different labels.

    Formula: tr(YᵀLY)/tr(YᵀDY), Y the label indicators, L = D − A the Laplacian of the graph that joins i and k where
    either is among the ``neighbours`` nearest of the other by the cosine of their features; the first 1000 examples.
    The published score (third in the competition of 2020) has the same graph of one neighbour, directed, and mixes the
    inputs. Raises: Undefined where there are too few examples, none differ in their features, or the last weight layer
    is not linear.
    Sign: labels that vary between neighbours are not a smooth function of the representation.
    """
    labels = train.labels[:NEIGHBOURHOOD_EXAMPLES]
    return label_variation(features[:NEIGHBOURHOOD_EXAMPLES], labels, neighbours)


@measure(source="papyan2020, NC1", sign=+1, invariances=_CLASSES)
def class_compactness(features: Float[Tensor, "examples features"], train: Split) -> float:
    """The variation within classes over that between them, in the last hidden layer (neural collapse, NC1).

    Formula: tr(S_W S_B⁺)/C, S_W the covariance of what enters the last weight layer around its class means, S_B that
    of the class means around their own mean, both divided by counts; 0 where every class has collapsed to a point.
    Raises: Undefined where the class means do not differ, or the last weight layer is not linear.
    Sign: a larger value is less compact; classes that overlap in a representation are told apart by detail.
    """
    return within_over_between(features, train.labels)


@measure(source="ansuini2019; facco2017", sign=+1, invariances=("unit_permutation", "input_rotation"))
def intrinsic_dimension(features: Float[Tensor, "examples features"], *, discarded: float = 0.1) -> Estimate:
    """The intrinsic dimension of the last hidden layer, by the two nearest neighbours (TwoNN).

    Formula: (k − 1)/(Σ_{i<=k} ln μ_(i) + (N − k) ln μ_(k)), μ_(i) the ascending ratios of the distances to the second
    and the first neighbour, of the first 1000 examples. P(μ > t) = t^−d, so this is the unbiased maximum-likelihood
    estimate of d with the largest ratios (a share of ``discarded``, as in the paper, which fits a line instead) known
    only to be large. Its standard error d/√(k − 2) is over samples, not over re-runs, which all agree.
    Raises: Undefined where fewer than three ratios are left, or the last weight layer is not linear.
    Sign: the paper finds networks with a last hidden layer of low dimension to generalise better.
    """
    return two_nn(features[:NEIGHBOURHOOD_EXAMPLES], discarded)


@measure(source="natekar2020, consistency", sign=-1, invariances=("rescaling", "unit_permutation"))
def augment_consistency(
    augmented_logits: Float[Tensor, "draws first classes"], logits: Float[Tensor, "examples classes"]
) -> Estimate:
    """The share of predictions that stay when a training example is moved a little.

    Formula: mean of 1[argmax f(x'_i) = argmax f(x_i)], x' augmented copies as in `augment_margin`: images shifted by a
    pixel or two, other inputs with Gaussian noise of a tenth of their standard deviation. Raises: nothing.
    Sign: predictions that such a change flips were fitted to the example, not to its class.
    """
    predictions = logits[: augmented_logits.shape[1]].argmax(dim=1)
    return over_draws((augmented_logits.argmax(dim=2) == predictions).double())


@measure(source="novak2018, Jacobian norm", sign=+1, invariances=_FUNCTION)
def input_gradient_norm(
    input_jacobian_grams: Float[Tensor, "first classes classes"], logits: Float[Tensor, "examples classes"]
) -> float:
    """The mean norm of the Jacobian of the class probabilities with respect to the input.

    Formula: mean of ‖∂p/∂x‖_F = √tr(S JJᵀ S), p = softmax(f), S = diag(p) − ppᵀ, J = ∂f/∂x, over the first 100 training
    examples (the paper: test examples); in units of the input. As recalled. Raises: nothing.
    Sign: the paper finds networks with small Jacobians near the data to generalise better.
    """
    probabilities = softmax(logits[: len(input_jacobian_grams)], dim=1)
    slopes = torch.diag_embed(probabilities) - probabilities.unsqueeze(2) * probabilities.unsqueeze(1)
    squares = (slopes @ input_jacobian_grams @ slopes).diagonal(dim1=1, dim2=2).sum(dim=1)
    return float(squares.clamp_min(0).sqrt().mean())


@measure(source="dherin2022, definition of geometric complexity", sign=+1, invariances=_FUNCTION)
def geometric_complexity(input_jacobian_grams: Float[Tensor, "examples classes classes"]) -> float:
    """The discrete Dirichlet energy of the logits on the training sample.

    Formula: mean of ‖∂f/∂x‖_F², f the logits (not the probabilities: the paper's version as recalled), over the first
    100 training examples; in squared units of the input. Raises: nothing.
    Sign: it measures the variability of the function, which the regularisers that help to generalise all lower.
    """
    return float(input_jacobian_grams.diagonal(dim1=1, dim2=2).sum(dim=1).mean())


@measure(source="arpit2017, critical sample ratio", sign=+1, invariances=("rescaling",), cost="gradient")
def critical_sample_ratio(evaluated_float32: nn.Module, train: Split, *, radius: float = 0.1, steps: int = 3) -> float:
    """The share of training examples with a differently predicted point in a small box around them.

    Formula: share of the first 100 examples x with argmax f(x') ≠ argmax f(x) for an x' found with ‖x' − x‖∞ <= r,
    r = ``radius`` standard deviations of the input coordinates. The search takes signed-gradient steps of 5/6 r, the
    ratio in the paper's published search, without its noise. A lower estimate: a search can miss.
    Raises: nothing. Sign: the paper finds more critical examples around what a network has memorised.
    """
    inputs = train.inputs[:ADVERSARIAL_EXAMPLES]
    size = radius * input_spread(train.inputs)
    return float(flipped(evaluated_float32, inputs, size, size * 5 / 6, steps).double().mean())


variants(critical_sample_ratio, radius=(0.02, 0.3))


@measure(source="fridovichkeil2022, within-class paths; rahaman2019", sign=-1, invariances=_FUNCTION)
def spectral_bias(line_energies: Float[Tensor, "lines frequencies"], *, cutoff: int = 4) -> Estimate:
    """The share of low frequencies in how the logits vary between training examples of one label.

    Formula: Σ_lines Σ_{k<=cutoff} E_k / Σ_lines Σ_k E_k, E_k the energy of the logits at k half-periods a line, along
    32 lines between random pairs of one label, 16 points each, k = 1 … 15; by default up to two whole periods. A linear
    function has .998. Its standard error is that of a ratio of means over lines.
    Raises: Undefined where no two examples share a label or the logits do not vary along any line.
    Sign: the larger, the stronger the bias to low frequencies, which makes for simple functions; along such paths the
    paper finds lower frequencies in networks that generalise better.
    """
    total = line_energies.sum(dim=1)
    if float(total.sum()) <= 0:
        raise Undefined("the logits do not vary between training examples of one label")
    low = line_energies[:, :cutoff].sum(dim=1)
    share = float(low.sum() / total.sum())
    return Estimate(share, float((low - share * total).norm()) / float(total.sum()))
