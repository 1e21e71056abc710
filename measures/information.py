"""Information: the entropy of the weights, the information plane of the last hidden layer, the information in weights.

The information plane is a *binning statistic*: a deterministic network has I(X;T) infinite or equal to the entropy of
X, and what is measured is how many cells of a grid the activations fall into (saxe2018). Where every training example
has a cell of its own, I(X;T) is log2 m and I(T;Y) the entropy of the labels, whatever the network.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import softmax

from gapbench.datasets.spec import Split
from gapbench.measures.layers import Weighted, trace
from gapbench.measures.quantities import batches
from gapbench.measures.registry import Undefined, measure, quantity, variants

EXAMPLES_AT_ONCE = 25
"""Few enough for the activations of a convolutional network to stay in the cache: twice as fast as 1000."""


def weight_tensors(network: nn.Module) -> dict[str, Tensor]:
    """The weights of a network by name: its parameters of two dimensions or more (no biases, no gains of a norm)."""
    return {name: tensor.detach() for name, tensor in network.named_parameters() if tensor.ndim >= 2}


def entropy_bits(counts: Tensor) -> float:
    """The entropy, in bits, of the frequencies with these counts."""
    shares = counts[counts > 0].double() / float(counts.sum())
    return float(-(shares * shares.log2()).sum())


@measure(source="han2016, entropy coding", sign=+1, invariances=("unit_permutation", "example_permutation"))
def weight_entropy(folded: nn.Module, *, bins: int = 256) -> float:
    """The entropy of the weights, quantised in each layer, in bits a weight.

    Formula: Σ_l n_l H_l / Σ_l n_l, n_l the weights of tensor l and H_l the entropy of their histogram in ``bins`` equal
    bins over [−max|w|, max|w|]: of quantised weights, so never negative and free of the scale of a layer (a
    differential entropy is neither). At most log2 n_l: small layers are coarse. Biases are left out. Raises: nothing.
    Sign: weights of more entropy hold more information, which may be that of single examples.
    """
    total, entropy = 0, 0.0
    for weight in weight_tensors(folded).values():
        largest = float(weight.abs().max())
        if largest > 0:
            places = ((weight.flatten() / largest + 1) / 2 * bins).long().clamp(max=bins - 1)
            entropy += weight.numel() * entropy_bits(places.bincount(minlength=bins))
        total += weight.numel()
    return entropy / total


@quantity(large=True, cost="forward")
def last_hidden(folded: nn.Module, train: Split) -> Float[Tensor, "examples units"]:
    """What enters the last weight layer for each training example, scaled to [0, 1] by its least and largest entry.

    Raises: Undefined where the network has one weight layer only, its last is used twice, or all entries are equal.
    """
    with torch.no_grad():
        calls = trace(folded, train.inputs[:1].double())
        names = [call.name for call in calls if isinstance(call.module, Weighted)]
        if len(names) < 2:
            raise Undefined("the network has no hidden layer")
        if names.count(names[-1]) > 1:
            raise Undefined(f"layer {names[-1]} is used more than once in a forward pass")
        seen: list[Tensor] = []
        handle = folded.get_submodule(names[-1]).register_forward_pre_hook(
            lambda module, given: seen.append(given[0].flatten(1))
        )
        try:
            for inputs, _ in batches(train, EXAMPLES_AT_ONCE):
                folded(inputs)
        finally:
            handle.remove()
    activations = torch.cat(seen)
    least, largest = activations.min(), activations.max()
    if not bool(least < largest):
        raise Undefined("the last hidden layer is constant on the training sample")
    return (activations - least) / (largest - least)


def cells(activations: Float[Tensor, "examples units"], bins: int) -> Int[Tensor, " examples"]:
    """For each example the number of its cell in the grid of ``bins`` equal bins of [0, 1] a unit."""
    codes = (activations * bins).long().clamp(max=bins - 1)
    numbers: Tensor = torch.unique(codes, dim=0, return_inverse=True)[1]
    return numbers


@measure(
    source="shwartzziv2017; saxe2018, binning",
    sign=+1,
    invariances=("unit_permutation", "example_permutation", "example_duplication"),
)
def information_plane_input(last_hidden: Float[Tensor, "examples units"], *, bins: int = 30) -> float:
    """The binned information between the input and the last hidden layer, in bits: a binning statistic.

    Formula: I(X;T) = H(T), the entropy of the cells that the training examples fall into (T is a function of X). Each
    unit has ``bins`` equal bins between the least and the largest activation of the layer: Shwartz-Ziv and Tishby's 30
    bins, at the observed range as for the ReLU networks of Saxe et al. (as recalled), since ReLU has no bound. It
    saturates at log2 m in wide layers; the variant of 2 bins does so later.
    Raises: Undefined where there is no hidden layer, or a constant one.
    Sign: the information bottleneck holds that a layer which has compressed its input generalises better.
    """
    return entropy_bits(cells(last_hidden, bins).bincount())


variants(information_plane_input, bins=(2,))


@measure(
    source="shwartzziv2017; saxe2018, binning",
    sign=-1,
    invariances=("unit_permutation", "example_permutation", "example_duplication"),
)
def information_plane_label(last_hidden: Float[Tensor, "examples units"], train: Split, *, bins: int = 30) -> float:
    """The binned information between the last hidden layer and the labels, in bits: a binning statistic.

    Formula: I(T;Y) = H(T) + H(Y) − H(T,Y) on the training sample, T binned as in `information_plane_input`. It is H(Y),
    whatever the labels, once no cell holds two of them. Raises: Undefined as `information_plane_input`.
    Sign: the information bottleneck holds that a layer which tells more of the label generalises better.
    """
    own = cells(last_hidden, bins)
    joint = torch.unique(torch.stack([own, train.labels]), dim=1, return_counts=True)[1]
    return entropy_bits(own.bincount()) + entropy_bits(train.labels.bincount()) - entropy_bits(joint)


variants(information_plane_label, bins=(2,))


@measure(source="achille2019, Fisher information in the weights", sign=+1, invariances=("unit_permutation",))
def fisher_information_in_weights(
    tangent_gram: Float[Tensor, "N N"],
    logits: Float[Tensor, "examples classes"],
    initial_parameters: Float[Tensor, " parameters"],
    train: Split,
) -> float:
    """The information in the weights: what they tell of the training set under the best Gaussian noise, in nats.

    Formula: ½ ln det(I + m λ² F), F the Fisher matrix of one example under the model's own labels, all entries: a
    posterior of precision m F + I/λ² against a prior N(w, λ²I) as wide as the initialisation, λ² = ‖w0‖²/ω (the
    distance of the means, ‖w‖²/λ², is left out; β of the paper is the one of the likelihood; as recalled). F is that of
    the n examples of `tangent_gram`, F = (1/n) Σ_i J_iᵀ(diag p_i − p_i p_iᵀ)J_i, so by Sylvester's identity the
    determinant is that of I + (m λ²/n) SᵀKS with diag p_i − p_i p_iᵀ = S_i S_iᵀ.
    Raises: Undefined where the initial parameters are all zero.
    Sign: the gap is bounded by the information in the weights.
    """
    width = float(initial_parameters.square().mean())
    if width == 0:
        raise Undefined("the initial parameters are all zero: a prior as wide as they are is a point")
    classes = logits.shape[1]
    examples = len(tangent_gram) // classes
    p = softmax(logits[:examples], dim=1)
    roots = (torch.eye(classes, dtype=p.dtype) - p.unsqueeze(2)) * p.sqrt().unsqueeze(1)
    blocks = tangent_gram.view(examples, classes, examples, classes)
    fisher = torch.einsum("ics,icjd,jdt->isjt", roots, blocks, roots).reshape(len(tangent_gram), -1)
    # Rounding of the kernel leaves eigenvalues of some 1e-16 of the largest on either side of zero.
    eigenvalues = torch.linalg.eigvalsh(fisher).clamp_min(0.0)
    return float(torch.log1p(len(train) * width / examples * eigenvalues).sum()) / 2
