"""Margins of the training sample: at the output, in input and hidden space, and between examples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from gapbench.datasets.spec import Split
from gapbench.measures.draws import over_draws
from gapbench.measures.layers import Weighted, example_dimension, trace, weight_calls
from gapbench.measures.quantities import batches
from gapbench.measures.registry import Estimate, LayerSum, Undefined, measure, quantity
from gapbench.models.margins import label_margins

SIGNATURE_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True)
class MarginGradient:
    """How the margins move with the representation that enters a weight layer.

    ``norms`` (examples): ‖∇_x (f_y − f_j)‖₂, j the runner-up; ``total_variation``: the trace of the covariance of the
    representation over the training sample. The first of a network is that of its input.
    """

    norms: Float[Tensor, " examples"]
    total_variation: float


RESOLVED = 1e-12
"""A smaller share of the mean square is no variance, but rounding."""


@quantity(cost="gradient")
def margin_gradients(evaluated: nn.Module, train: Split) -> tuple[MarginGradient, ...]:
    """The gradients of the margins at the input and at the input of every weight layer but the first.

    The loss couples no two examples in evaluation mode, so one backward pass gives all of them.
    Raises: Undefined where examples are mixed in what enters a layer.
    """
    dimensions = [0]
    for call, twice in weight_calls(evaluated, train.inputs[:1])[1:]:
        dimension = example_dimension(call.input, twice.input)
        if dimension is None:
            raise Undefined(
                f"examples are not apart in what enters layer {call.name}: {tuple(twice.input.shape)} for two"
            )
        dimensions.append(dimension)
    observed = nn.Sequential(evaluated, nn.Identity())  # its last call is the output of the network
    norms: list[list[Tensor]] = []
    means: list[Tensor] = []
    squares: list[float] = []
    for inputs, labels in batches(train):
        inputs = inputs.detach().requires_grad_()
        calls = trace(observed, inputs)
        points = [inputs, *[call.input for call in calls if isinstance(call.module, Weighted)][1:]]
        total = label_margins(calls[-1].output, labels).sum()
        gradients = torch.autograd.grad(total, points, allow_unused=True, materialize_grads=True)
        for place, dimension in enumerate(dimensions):
            point, gradient = (of[place].movedim(dimension, 0) for of in (points, gradients))
            if place == len(norms):
                norms.append([])
                means.append(torch.zeros_like(point[0]))
                squares.append(0.0)
            norms[place].append(gradient.flatten(1).norm(dim=1))
            means[place] += point.detach().sum(dim=0) / len(train)
            squares[place] += float(point.detach().square().sum()) / len(train)
    variations = []
    for square, mean in zip(squares, means, strict=True):
        variation = square - float(mean.square().sum())
        # Rounding leaves some of what does not vary.
        variations.append(variation if variation > RESOLVED * square else 0.0)
    return tuple(MarginGradient(torch.cat(n), v) for n, v in zip(norms, variations, strict=True))


@measure(source="jiang2020, eq. 22", sign=+1, invariances=("rescaling", "unit_permutation", "example_permutation"))
def inverse_margin(margin: float) -> float:
    """The inverse squared margin of the training sample.

    Formula: 1/γ², γ the 10th percentile of f_y − max_{j≠y} f_j. Raises: Undefined where γ <= 0.
    Sign: margin bounds fall with γ.
    """
    return 1 / margin**2


@measure(source="bartlett2017", sign=-1, invariances=("rescaling", "unit_permutation", "example_permutation"))
def margin_mean(margins: Float[Tensor, " examples"]) -> float:
    """The mean margin of the training sample.

    Formula: (1/m) Σ_i (f_y − max_{j≠y} f_j)(x_i). Raises: nothing. Sign: margin bounds fall with the margin.
    """
    return float(margins.mean())


@measure(source="jiang2019", sign=-1, invariances=("rescaling", "unit_permutation", "example_permutation"))
def margin_quantile_signature(
    margins: Float[Tensor, " examples"], margin: float, logits: Float[Tensor, "examples classes"]
) -> float:
    """The mean log quantile of the output margins, in units of the spread of the outputs.

    Formula: mean over q in {.1, .25, .5, .75, .9} of ln(Q_q(margins)/√V), Q_q with linear interpolation, V the total
    variation (trace of the covariance over examples) of the outputs after subtracting each example's mean over classes.
    The fixed rule replaces the regression that Jiang et al. (2019) fit to such quantiles.
    Raises: Undefined where γ <= 0 or the outputs do not vary. Sign: margin bounds fall with the margin.
    """
    levels = torch.tensor(SIGNATURE_QUANTILES, dtype=torch.float64)
    centred = logits - logits.mean(dim=1, keepdim=True)
    variation = float(centred.var(dim=0, correction=0).sum())
    if variation <= 0:
        raise Undefined("the outputs are the same for all training examples")
    return float(torch.quantile(margins, levels).log().mean()) - math.log(variation) / 2


@measure(source="jiang2019", sign=-1, invariances=("unit_permutation", "example_permutation"))
def normalised_layer_margin(
    margins: Float[Tensor, " examples"], margin_gradients: tuple[MarginGradient, ...]
) -> LayerSum:
    """The mean over input and hidden layers of the log median distance to the decision boundary, in units of spread.

    Formula: mean_l ln( median_i[(f_y − f_j)(x_i)/‖∇_{x^l}(f_y − f_j)‖₂] / √V_l ), j the runner-up class, x^l what
    enters weight layer l, V_l its total variation: the linearised distance of Jiang et al. (2019), as one number.
    The median of an even number of examples is half-way between the middle two.
    Raises: Undefined where a median is not positive, or what enters a layer does not vary or does not move the margins.
    Sign: margin bounds fall with the margin.
    """
    logs = []
    for place, gradient in enumerate(margin_gradients):
        if not bool(gradient.norms.any()) or gradient.total_variation <= 0:
            dead = "does not vary" if gradient.total_variation <= 0 else "does not move the margins"
            raise Undefined(f"what enters weight layer {place + 1} of {len(margin_gradients)} {dead}")
        median = float(torch.nanquantile(margins / gradient.norms, 0.5))
        if not 0 < median < math.inf:
            raise Undefined(f"the median margin at the input of weight layer {place + 1} is {median:.4g}")
        logs.append(math.log(median) - math.log(gradient.total_variation) / 2)
    return LayerSum(sum(logs) / len(logs), logs)


@measure(source="jiang2020", sign=+1, invariances=("rescaling", "unit_permutation", "example_permutation"))
def negative_entropy(logits: Float[Tensor, "examples classes"]) -> float:
    """The negative entropy of the predicted class probabilities, mean over the training sample, in nats.

    Formula: (1/m) Σ_i Σ_c p_c ln p_c, p = softmax(f(x_i)); between −ln C and 0. As recalled. Raises: nothing.
    Sign: overconfident outputs are penalised as overfitting (pereyra2017).
    """
    log_probabilities = log_softmax(logits, dim=1)
    return float((log_probabilities.exp() * log_probabilities).sum(dim=1).mean())


@measure(source="jiang2020", sign=-1, invariances=("rescaling", "unit_permutation", "example_permutation"))
def train_cross_entropy(losses: Float[Tensor, " examples"]) -> float:
    """The mean cross-entropy of the training sample, in nats: the same number as the control `train_loss`.

    Formula: −(1/m) Σ_i ln p_y(x_i). Raises: nothing. Sign: loss left on the training sample was not memorised.
    """
    return float(losses.mean())


@measure(
    source="natekar2020, mixup margin",
    sign=-1,
    invariances=("rescaling", "unit_permutation", "input_rotation"),
    revision=2,
)
def mixup_margin(mixup_margins: Float[Tensor, "draws paired"]) -> Estimate:
    """The mean margin half-way between training examples of one label.

    Formula: mean of f_y − max_{j≠y} f_j at (x_i + x_k)/2, k drawn at random among the other examples with y_k = y_i;
    several partners for each of the first 250 examples, those alone in their label left out.
    (The published code divides these margins by their gradients in the first hidden layer and by the spread there.)
    Raises: Undefined where no two examples share a label.
    Sign: a network that keeps its margin between examples of a class is simple there.
    """
    return over_draws(mixup_margins)


@measure(source="natekar2020, augment margin", sign=-1, invariances=("rescaling", "unit_permutation"))
def augment_margin(augmented_logits: Float[Tensor, "draws first classes"], train: Split) -> Estimate:
    """The mean margin of training examples that are moved a little.

    Formula: mean of f_y − max_{j≠y} f_j at augmented copies of the first 250 examples, y the training label. Images are
    shifted by a pixel or two, never reflected; other inputs get Gaussian noise of a tenth of their standard deviation.
    (The published code also changes contrast and reflects, and divides the margins by their gradients in the first
    hidden layer and by the spread there.) Raises: nothing.
    Sign: a margin that such a change removes was fitted to the example, not to its class.
    """
    labels = train.labels[: augmented_logits.shape[1]]
    return over_draws(torch.stack([label_margins(logits, labels) for logits in augmented_logits]))
