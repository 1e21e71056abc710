"""Every measure on many architectures: a value, or the true reason why there is none; and brute-force Jacobians."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from gapbench.datasets.spec import Split
from gapbench.measures import BUILT_IN, ascent, curvature, perturbation, quantities, sharpness
from gapbench.measures.curvature import gauss_newton_trace
from gapbench.measures.layers import has_batch_norm
from gapbench.measures.optimisation import gradient_variance
from gapbench.measures.outputs import outputs_of
from gapbench.measures.read import Reading, read
from gapbench.measures.tangent import tangent_kernel
from gapbench.models.trained import Trained

FUNCTION = (
    "num_params", "train_loss", "margin_mean", "negative_entropy", "mixup_margin", "average_sharpness_l2",
    "average_adaptive_sharpness_l2", "worst_sharpness_l2", "worst_adaptive_sharpness_linf", "pacbayes_init",
    "pacbayes_mag_flatness", "hessian_top", "hessian_trace", "tangent_alignment", "tangent_effective_dimension",
    "benign_rank_R", "gradient_noise_final", "gradient_noise_epoch_1", "normalised_layer_margin",
)  # fmt: skip
"""What depends on the function and its parameters: defined on every network."""

SIZES = ("l2", "l2_distance")
LAYERS = (
    "param_norm", "frobenius_distance", "spectral_distance", "log_prod_frobenius", "log_prod_spectral",
    "log_prod_spectral_operator", "log_sum_spectral", "frobenius_over_spectral", "frobenius_over_spectral_operator",
    "vc_bartlett2019", "vc_jiang", "vc_pgdl", "output_weight_vc", "fisher_rao",
)  # fmt: skip
PATHS = ("path_norm", "path_norm_l1")
LIPSCHITZ = ("lipschitz_upper",)
REGIONS = ("linear_regions",)

UNDEFINED: dict[str, tuple[tuple[str, ...], str]] = {
    "layer norm": ((*PATHS, *LIPSCHITZ, *REGIONS), "Norm"),
    "tanh": ((*PATHS, *LIPSCHITZ, *REGIONS), "Tanh"),
    "pre-activation": ((*SIZES, *LAYERS, *PATHS, *LIPSCHITZ), "batch norm 2 cannot be folded"),
    "grouped": ((*PATHS, *LIPSCHITZ, *REGIONS), "CopySlices"),
    "one-dimensional": ((*PATHS, *LIPSCHITZ, *REGIONS), "Prelu"),
    "inverted residual": (PATHS, "Hardtanh"),
    "dense block": ((*SIZES, *LAYERS, *PATHS, *LIPSCHITZ), "batch norm 1.norms.0 cannot be folded"),
    "transformer": ((*PATHS, *LIPSCHITZ, *REGIONS), "NativeLayerNorm|Gelu|Bmm"),
    "pre-norm, tokens first": ((*PATHS, *LIPSCHITZ, *REGIONS), "NativeLayerNorm|Gelu|Bmm"),
    "own attention": ((*PATHS, *LIPSCHITZ, *REGIONS), "Bmm"),
    "tied": (LAYERS, "layer again is used more than once"),
}
"""By architecture: the measures without a value there, and the reason; all others of the lists above have one."""


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values need not be precise here."""
    few = functools.partial(perturbation.search_sigma, evaluations_at_least=48)
    monkeypatch.setattr(perturbation, "search_sigma", few)
    monkeypatch.setattr(perturbation, "MOST_EVALUATIONS", 8)
    monkeypatch.setattr(ascent, "MOST_ASCENT_STEPS", 3)
    monkeypatch.setattr(sharpness, "NOISY_EVALUATIONS", 48)
    monkeypatch.setattr(curvature, "MOST_EXACT_PARAMETERS", 0)
    monkeypatch.setattr(curvature, "MOST_PROBES", 20)


def readings(trained: Trained, *names: str) -> dict[str, Reading]:
    measures = [BUILT_IN.measures[name] for name in names or BUILT_IN.measures]
    return {reading.measure: reading for reading in read(measures, BUILT_IN, trained)}


def test_every_measure_has_a_value_or_a_reason(architecture) -> None:  # type: ignore[no-untyped-def]
    found = readings(architecture.trained)
    failed = {name: reading.reason for name, reading in found.items() if reading.status == "failed"}
    assert not failed
    assert all(reading.reason for reading in found.values() if reading.status == "undefined")
    absent, reason = UNDEFINED.get(architecture.name, ((), ""))
    for name in (*FUNCTION, *SIZES, *LAYERS, *PATHS, *LIPSCHITZ, *REGIONS):
        assert found[name].status == ("undefined" if name in absent else "ok"), found[name]
    for name in absent:
        assert any(part in found[name].reason for part in reason.split("|")), found[name]


def features(network: nn.Module, inputs: Tensor) -> Tensor:
    """The Jacobian of all logits with respect to all parameters, one example at a time, by torch.func."""
    state = {name: parameter.detach() for name, parameter in network.named_parameters()}

    def logits(parameters: dict[str, Tensor], example: Tensor) -> Tensor:
        output: Tensor = functional_call(network, parameters, (example[None],))[0]
        return output

    rows = [jacrev(logits)(state, example) for example in inputs]
    return torch.stack([torch.cat([part.flatten(1) for part in row.values()], dim=1) for row in rows])


def test_sums_of_per_example_gradients_are_those_of_the_jacobian(architecture) -> None:  # type: ignore[no-untyped-def]
    trained = architecture.trained
    sample = Split(trained.train.inputs[:9], trained.train.labels[:9], trained.train.classes)
    network = quantities.evaluated(trained.network, sample)
    inputs = sample.inputs.double()
    with torch.no_grad():
        p = network(inputs).softmax(dim=1)
    of_logits = features(network, inputs)
    rows = of_logits.flatten(0, 1)
    expected = rows @ rows.T
    assert float((tangent_kernel(network, inputs) - expected).abs().max()) <= 1e-9 * float(expected.abs().max())
    middle = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    trace = float(torch.einsum("icp,icd,idp->", of_logits, middle, of_logits)) / len(sample)
    assert gauss_newton_trace(network, sample) == pytest.approx(trace, rel=1e-9)
    slopes = torch.einsum("icp,ic->ip", of_logits, p - nn.functional.one_hot(sample.labels, sample.classes))
    variance = float((slopes - slopes.mean(dim=0)).square().sum()) / len(sample)
    assert gradient_variance(network, sample) == pytest.approx(variance, rel=1e-9)
    assert variance > 1e-9


def test_what_is_evaluated_computes_the_function_of_the_network(architecture) -> None:  # type: ignore[no-untyped-def]
    trained = architecture.trained
    evaluated = quantities.evaluated(trained.network, trained.train)
    with torch.no_grad():
        expected, found = trained.network(trained.train.inputs), outputs_of(evaluated, trained.train).logits
    torch.testing.assert_close(found.float(), expected, rtol=1e-4, atol=1e-4)
    kept = has_batch_norm(evaluated)
    assert kept == (architecture.name in ("pre-activation", "dense block"))
    if not kept:
        assert quantities.folded(evaluated, trained.network, trained.train) is evaluated


def test_all_parameters_count(architecture_named: Callable[[str], object]) -> None:
    """Class token, positional embedding and affine parameters are in the norm over all parameters, and in no layer."""
    trained = architecture_named("transformer").trained  # type: ignore[attr-defined]
    found = readings(trained, "l2", "param_norm")
    squares = {
        name: float(tensor.detach().double().square().sum()) for name, tensor in trained.network.named_parameters()
    }
    assert found["l2"].value == pytest.approx(math.sqrt(sum(squares.values())), rel=1e-6)
    matrices = [value for name, value in squares.items() if name.endswith("weight") and "norm" not in name]
    assert found["param_norm"].value == pytest.approx(sum(matrices), rel=1e-6)
    assert squares["token"] > 1e-3


def torchvision_networks() -> dict[str, tuple[Callable[[], nn.Module], bool]]:
    """Small networks of torchvision, and whether their batch norm can be folded."""
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed", exc_type=ImportError)
    convnext = models.convnext
    blocks = [convnext.CNBlockConfig(8, 16, 1), convnext.CNBlockConfig(16, None, 1)]
    return {
        "mobilenet": (lambda: models.MobileNetV2(3, 0.25, [[1, 16, 1, 1], [6, 24, 1, 2], [6, 24, 1, 1]]), True),
        "densenet": (lambda: models.DenseNet(4, (2, 2), 8, num_classes=3), False),
        "vit": (lambda: models.VisionTransformer(16, 8, 1, 2, 8, 16, num_classes=3), True),
        "convnext": (lambda: models.ConvNeXt(blocks, num_classes=3), True),
    }


@pytest.mark.parametrize("name", ["mobilenet", "densenet", "vit", "convnext"])
def test_networks_of_torchvision(name: str, fit: Callable[..., Trained]) -> None:
    make, folds = torchvision_networks()[name]
    found = readings(fit(make, (3, 16, 16), 12, 3, 10))
    assert not {reading.measure: reading.reason for reading in found.values() if reading.status == "failed"}
    assert all(found[measure].status == "ok" for measure in FUNCTION)
    assert all((found[measure].status == "ok") == folds for measure in (*SIZES, *LAYERS))


def test_inputs_of_double_precision_are_read_as_those_of_single() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    inputs, labels = torch.randn(30, 6), torch.arange(30) % 3
    initial = {name: tensor + 0.1 for name, tensor in network.state_dict().items()}
    names = ("mixup_margin", "augment_margin", "linear_regions", "pruning_ratio", "quantisation_bits")
    single, double = (
        readings(Trained(network, initial, Split(given, labels, 3)), *names) for given in (inputs, inputs.double())
    )
    for name in names:
        assert (double[name].status, double[name].value) == (single[name].status, single[name].value)
    assert single["linear_regions"].status == "ok"


def test_a_number_too_large_for_double_precision_is_undefined() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(*(nn.Linear(3, 3) for _ in range(20))).eval()
    for layer in network:
        layer.weight.data = 1e17 * torch.eye(3)
    initial = {name: 0 * tensor for name, tensor in network.state_dict().items()}
    train = Split(torch.eye(3), torch.arange(3), 3)
    found = readings(Trained(network, initial, train), "spectral_orig_main")["spectral_orig_main"]
    assert found.status == "undefined"
    assert "double precision" in found.reason


def test_curvature_and_sharpness_are_resolved_where_the_loss_is_tiny() -> None:
    """A loss of some 1e-8 nats, of which float32 keeps nothing: 1 + 1e-8 is 1 there."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    with torch.no_grad():
        network[2].weight.mul_(60)
        network[2].bias.mul_(60)
        inputs = torch.randn(400, 6)
        outputs = network(inputs).double()
        labels = outputs.argmax(dim=1)
        loss = nn.functional.cross_entropy(outputs, labels, reduction="none")
    kept = (loss > 1e-9) & (loss < 1e-7)
    train = Split(inputs[kept], labels[kept], 3)
    found = readings(Trained(network, {}, train), "sam_sharpness", "keskar", "hessian_top", "hessian_spectral_entropy")
    exact = copy.deepcopy(network).double()
    names = dict(exact.named_parameters())

    def mean_loss(values: dict[str, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(functional_call(exact, values, (train.inputs.double(),)), train.labels)

    start = {name: value.detach() for name, value in names.items()}
    assert float(mean_loss(start)) < 1e-7
    slope = torch.func.grad(mean_loss)(start)
    length = math.sqrt(sum(float(part.square().sum()) for part in slope.values()))
    moved = {name: value + 0.05 / length * slope[name] for name, value in start.items()}
    rise = float(mean_loss(moved) - mean_loss(start))
    assert found["sam_sharpness"].value == pytest.approx(rise, rel=1e-3)
    assert found["keskar"].value is not None
    assert found["keskar"].value >= 0
    blocks = torch.func.hessian(mean_loss)(start)
    rows = [torch.cat([blocks[a][b].reshape(start[a].numel(), start[b].numel()) for b in start], dim=1) for a in start]
    top = float(torch.linalg.eigvalsh(torch.cat(rows))[-1])
    assert found["hessian_top"].value == pytest.approx(top, rel=1e-3)


class Tokens(nn.Module):
    """One function of a sequence, its mean over tokens, with the examples first, second, or among the rows."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.first, self.second, self.last = way, nn.Linear(6, 16), nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        x = inputs if self.way == "batch first" else inputs.transpose(0, 1)
        x = inputs.reshape(-1, 6) if self.way == "rows" else x
        x = self.last(torch.relu(self.second(torch.relu(self.first(x)))))
        x = x.reshape(len(inputs), -1, 3) if self.way == "rows" else x
        return x.mean(dim=0 if self.way == "sequence first" else 1)


def test_rows_that_are_no_examples_are_not_taken_for_them() -> None:
    names = ("linear_regions", "intrinsic_dimension", "information_plane_input")
    found = {}
    for way in ("batch first", "sequence first", "rows"):
        torch.manual_seed(0)
        network = Tokens(way).eval()
        train = Split(torch.randn(20, 4, 6), torch.arange(20) % 3, 3)
        found[way] = readings(Trained(network, {}, train), *names)
    assert all(reading.status == "ok" for reading in found["batch first"].values())
    for way in ("sequence first", "rows"):
        for name in names:
            assert found[way][name].status == "undefined", (way, name)
            assert "row" in found[way][name].reason


def test_one_activation_under_two_names_is_bounded_as_two() -> None:
    torch.manual_seed(0)
    act = nn.Tanh()
    shared = nn.Sequential(nn.Linear(4, 5), act, nn.Linear(5, 5), act, nn.Linear(5, 2)).eval()
    apart = nn.Sequential(shared[0], nn.Tanh(), shared[2], nn.Tanh(), shared[4]).eval()
    train = Split(torch.randn(6, 4), torch.arange(6) % 2, 2)
    one, two = (readings(Trained(net, {}, train), "lipschitz_upper")["lipschitz_upper"] for net in (shared, apart))
    assert one.value is not None
    assert one.value == two.value


def test_the_lipschitz_bound_is_never_below_the_norm_that_it_is_sought_for() -> None:
    """A largest singular value that is hardly larger than the others: plain power iteration stops below it."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(100, 100, bias=False)).eval()
    with torch.no_grad():
        network[1].weight.copy_(torch.eye(100))
        network[1].weight[0, 0] = 1.0001
    train = Split(torch.randn(100, 1, 10, 10), torch.arange(100), 100)
    found = readings(Trained(network, {}, train), "lipschitz_upper")["lipschitz_upper"]
    assert found.value is not None
    assert 1.0001 * (1 - 1e-7) <= found.value <= 1.0001 * (1 + 1e-6)
