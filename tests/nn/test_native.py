"""The compiled network against the same model in torch: predictions and gradients of a loss; and its compiler."""

import copy
import pickle
import platform
from dataclasses import replace

import pytest
import torch

from nequip_like.data import fields
from nequip_like.data.graph import collate
from nequip_like.errors import ModelError
from nequip_like.model import NequIPGNNModel
from nequip_like.nn.lora import adapt
from nequip_like.nn.native import compiler, program
from nequip_like.nn.native.compiler import compile_library
from nequip_like.nn.native.sources import network_source
from nequip_like.testing.structures import batch_of, crystal, far_apart, graph_of, molecule, pair

pytestmark = pytest.mark.skipif(compiler.find_compiler() is None, reason="there is no C compiler")
CHANNELS = (6, 4, 3, 2, 1)
ARGUMENTS = {
    "seed": 3, "model_dtype": "float64", "type_names": ["H", "C", "O"], "r_max": 3.5, "num_layers": 3, "l_max": 1,
    "num_features": 8, "radial_mlp_depth": 2, "radial_mlp_width": 16, "per_type_energy_scales": 1.3,
    "per_type_energy_shifts": 0.2, "avg_num_neighbors": {"H": 3.0, "C": 4.0, "O": 5.0},
}  # fmt: skip


def model_of(kernel, **changes):
    return NequIPGNNModel(**{**ARGUMENTS, **changes}, kernel=kernel).train()


def numbers(model, batch):
    """Predictions, and the gradients of a loss of all of them."""
    prediction = model(batch)
    stress = prediction[fields.STRESS][~prediction[fields.STRESS].isnan().any(dim=(1, 2))]
    loss = prediction[fields.FORCES].square().sum() + prediction[fields.TOTAL_ENERGY].square().sum()
    loss = loss + 10.0 * stress.square().sum() + prediction[fields.PER_ATOM_ENERGY].pow(3).sum()
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
    found = {"energy": prediction[fields.TOTAL_ENERGY], "forces": prediction[fields.FORCES], "stress": stress}
    return {key: value.detach() for key, value in (found | dict(zip(parameters, gradients, strict=True))).items()}


def largest_difference(one, two):
    """Relative to each quantity's largest entry."""
    assert list(one) == list(two)
    differences = {key: float((one[key] - two[key]).abs().max() / two[key].abs().max().clamp_min(1e-30)) for key in one
                   if two[key].numel()}  # fmt: skip
    worst = max(differences, key=differences.__getitem__)
    return differences[worst], worst


def test_auto_is_fused_here():
    model = model_of("auto")
    assert model.kernel_in_use.startswith("auto: fused, C code compiled")
    assert model.accepts_skin_edges
    assert model_of("fused").kernel_in_use.startswith("fused, ")
    assert model_of("batched").kernel_in_use == "batched: torch"
    assert not model_of("batched").accepts_skin_edges


# Each is code of its own, and takes four seconds to compile: these have every l_max to 2, parity and precision.
QUICK = {(0, True, "float64"), (1, False, "float32"), (2, True, "float64")}


@pytest.mark.parametrize(
    ("l_max", "parity", "dtype", "limit"),
    [pytest.param(l_max, parity, dtype, limit, marks=[pytest.mark.slow] * ((l_max, parity, dtype) not in QUICK))
     for l_max in range(5) for parity in (False, True) for dtype, limit in (("float64", 1e-10), ("float32", 1e-5))],
)  # fmt: skip
def test_equals_reference(l_max, parity, dtype, limit):
    """With uneven channels, against float64; some gradients nearly cancel, so that torch's float32 is no better."""
    changes = {"l_max": l_max, "parity": parity, "num_features": list(CHANNELS[: l_max + 1]), "model_dtype": dtype}
    exact = model_of("reference", **{**changes, "model_dtype": "float64"})
    batch = batch_of([molecule(), crystal()], exact)
    expected = numbers(exact, batch)
    ours, batched = model_of("fused", **changes), model_of("batched", **changes)
    for model in (ours, batched):
        model.load_state_dict(exact.state_dict())
    difference, where = largest_difference(numbers(ours, batch), expected)
    # Registers of another width sum in another order.
    assert difference < max(limit, 2 * largest_difference(numbers(batched, batch), expected)[0]), where


@pytest.mark.parametrize("width", [1, 16, *(pytest.param(width, marks=pytest.mark.slow) for width in (2, 32))])
def test_widths_of_vectors(width):
    changes = {"num_features": width, "l_max": 1}
    batch = batch_of([molecule(), crystal()], model_of("fused", **changes))
    difference, where = largest_difference(
        numbers(model_of("fused", **changes), batch), numbers(model_of("batched", **changes), batch)
    )
    assert difference < 1e-10, where


@pytest.mark.parametrize(
    "changes",
    [
        {"convnet_resnet": True, "learnable_shift": True},
        {"convnet_sc": False, "per_edge_type_cutoff": {"H": 2.5, "C": {"O": 3.0}}},
        {"pair_potential": "zbl", "num_layers": 1},
        {
            "convnet_nonlinearity_scalars": {"e": "ssp", "o": "abs"},
            "convnet_nonlinearity_gates": {"e": "mish", "o": "tanh"},
            "readout_mlp_hidden_layers_depth": 1,
            "per_type_energy_scales_trainable": True,
            "per_type_energy_shifts_trainable": True,
            "bessel_trainable": True,
        },
        {
            "convnet_nonlinearity_scalars": {"e": "gelu", "o": "tanh"},
            "convnet_nonlinearity_gates": {"e": "gelu", "o": "tanh"},
            "type_embed_num_features": 6,
            "radial_mlp_depth": 0,
        },
        {"polynomial_cutoff_p": 5.5, "num_bessels": 4, "radial_mlp_depth": 1},
    ],
    ids=["resnet", "pair cutoffs", "zbl", "activations, trained scales", "one linear radial layer", "odd cutoff"],
)
def test_every_argument(changes):
    ours, theirs = model_of("fused", **changes), model_of("batched", **changes)
    batch = batch_of([molecule(), crystal()], ours)
    difference, where = largest_difference(numbers(ours, batch), numbers(theirs, batch))
    assert difference < 1e-10, where


@pytest.mark.parametrize("num_layers", [ARGUMENTS["num_layers"], pytest.param(4, marks=pytest.mark.slow)])
def test_predictions_equal_training(num_layers):
    """Evaluation keeps less, and shares memory between layers."""
    model = model_of("fused", num_layers=num_layers)
    batch = batch_of([molecule(), crystal()], model)
    trained = model(batch)
    predicted = model.eval()(batch)
    for key in model.predicted_fields:
        # Sums over edges are in another order.
        torch.testing.assert_close(predicted[key], trained[key].detach(), rtol=1e-12, atol=1e-15, equal_nan=True)
        assert not predicted[key].requires_grad


def test_finite_differences():
    """Of the energy, and of a force along a parameter."""
    model = model_of("fused").eval()
    graph = graph_of(molecule(), model)
    forces = model(graph)[fields.FORCES]
    step = 1e-5
    for atom, axis in ((0, 0), (2, 1), (4, 2)):
        energies = []
        for sign in (1, -1):
            moved = dict(graph)
            moved[fields.POSITIONS] = graph[fields.POSITIONS].clone()
            moved[fields.POSITIONS][atom, axis] += sign * step
            energies.append(float(model(moved)[fields.TOTAL_ENERGY]))
        assert float(forces[atom, axis]) == pytest.approx(-(energies[0] - energies[1]) / (2 * step), rel=1e-6, abs=1e-9)

    weight = model.energy_model.layers[1].linear_out.weights[0]
    (gradient,) = torch.autograd.grad(model.train()(graph)[fields.FORCES][1, 2], weight)
    values = []
    with torch.no_grad():
        for sign in (1, -1):
            weight[3, 2] += sign * step
            values.append(float(model(graph)[fields.FORCES][1, 2]))
            weight[3, 2] -= sign * step
    assert float(gradient[3, 2]) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-6)


def test_edges_in_any_order():
    model = model_of("fused")
    batch = batch_of([molecule(), crystal()], model)
    order = torch.randperm(batch[fields.EDGE_INDEX].shape[1], generator=torch.Generator().manual_seed(0))
    mixed = {**batch, fields.EDGE_INDEX: batch[fields.EDGE_INDEX][:, order]}
    mixed[fields.EDGE_CELL_SHIFT] = batch[fields.EDGE_CELL_SHIFT][order]
    difference, where = largest_difference(numbers(model, mixed), numbers(model, batch))
    assert difference < 1e-13, where


def test_edges_beyond_the_cutoff_change_nothing():
    model = model_of("fused")
    batch = batch_of([molecule(), crystal()], model)
    wide = batch_of([molecule(), crystal()], model_of("fused", r_max=4.2))
    assert wide[fields.EDGE_INDEX].shape[1] > batch[fields.EDGE_INDEX].shape[1]
    difference, where = largest_difference(numbers(model, wide), numbers(model, batch))
    assert difference < 1e-13, where


def test_isolated_atoms_and_no_edges():
    model = model_of("fused")
    lonely = batch_of([pair("H", "O", 9.0), far_apart(molecule(), molecule(), 9.0)], model)
    difference, where = largest_difference(numbers(model, lonely), numbers(model_of("batched"), lonely))
    assert difference < 1e-10, where
    alone = batch_of([pair("H", "O", 9.0)], model)
    assert alone[fields.EDGE_INDEX].shape[1] == 0
    assert model(alone)[fields.PER_ATOM_ENERGY].flatten().tolist() == [0.2, 0.2]
    assert not numbers(model, alone)["forces"].any()


@pytest.mark.parametrize("l_max", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_wrong_sign_is_noticed(l_max, monkeypatch):
    """Of one Clebsch-Gordan coefficient of 1 x 1 -> 0, in one place of the code of one convolution."""
    write_network = network_source.write_network

    def write_wrong_network(*arguments):
        sources = write_network(*arguments)
        second = sources.units[2]  # the second layer's
        coefficient = next(part.split(" *")[0] for part in second.split("(REAL)") if part.startswith("0.57735"))
        planted = second.replace(f"(REAL){coefficient}", f"(REAL)-{coefficient}", 1)
        return replace(sources, units=[*sources.units[:2], planted, *sources.units[3:]])

    batch = batch_of([molecule(), crystal()], model_of("batched", l_max=l_max))
    expected = numbers(model_of("batched", l_max=l_max), batch)
    monkeypatch.setattr(program, "write_network", write_wrong_network)
    difference, _ = largest_difference(numbers(model_of("fused", l_max=l_max), batch), expected)
    assert difference > 1e-3


def test_the_number_of_threads_changes_no_bit():
    batch = batch_of([molecule(), crystal()] * 20, model_of("fused"))
    found = []
    threads = torch.get_num_threads()
    for count in (1, 2, 3, 8):
        torch.set_num_threads(count)
        found.append(numbers(model_of("fused", model_dtype="float32"), batch))
    torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(value, found[0][key]) for key, value in other.items())


def test_repeated_steps_are_equal():
    model = model_of("fused", model_dtype="float32")
    batch = batch_of([molecule(), crystal()], model)
    first, second = numbers(model, batch), numbers(model, batch)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_two_calculations_before_their_gradients():
    """Each keeps its own memory."""
    model = model_of("fused")
    one, two = graph_of(molecule(), model), graph_of(crystal(), model)
    expected = [numbers(model, graph) for graph in (one, two)]
    losses = [model(graph)[fields.FORCES].square().sum() for graph in (one, two)]
    weight = model.energy_model.layers[0].linear_out.weights[0]
    together = torch.autograd.grad(losses[0] + losses[1], weight)[0]
    apart = sum(torch.autograd.grad(model(graph)[fields.FORCES].square().sum(), weight)[0] for graph in (one, two))
    torch.testing.assert_close(together, apart, rtol=1e-12, atol=1e-14)
    assert len(expected) == 2


def test_a_parameter_changed_before_the_gradient_is_noticed():
    model = model_of("fused")
    loss = model(graph_of(molecule(), model))[fields.FORCES].square().sum()
    with torch.no_grad():
        model.energy_model.type_embedding.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_held_parameters_follow_changes():
    model, fresh = model_of("fused").eval(), model_of("fused", seed=4).eval()
    graph = graph_of(crystal(), model)
    model.cache_parameters()
    before = model(graph)[fields.FORCES]
    assert torch.equal(model(graph)[fields.FORCES], before)
    moved = {**graph, fields.POSITIONS: graph[fields.POSITIONS] + 0.01 * torch.rand(4, 3, dtype=torch.float64)}
    assert torch.equal(model(moved)[fields.FORCES], model_of("fused").eval()(moved)[fields.FORCES])
    model.load_state_dict(fresh.state_dict())
    changed = model(graph)[fields.FORCES]
    assert torch.equal(changed, fresh(graph)[fields.FORCES])
    assert not torch.equal(changed, before)
    model.energy_model.sender_norm.mul_(0.5)  # a buffer
    fresh.energy_model.sender_norm.mul_(0.5)
    assert torch.equal(model(graph)[fields.FORCES], fresh(graph)[fields.FORCES])
    assert not torch.equal(model(graph)[fields.FORCES], changed)


def change_in_place(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)


def give_other_data(model):
    for parameter in model.parameters():
        parameter.data = parameter.data * 1.1


def replace_a_parameter(model):
    layer = model.energy_model.layers[1].radial_mlp.weights
    layer[1] = torch.nn.Parameter(layer[1].detach() * 1.1)


def adapt_linear_layers(model):
    """And away from zero, where an adaptation begins."""
    adapt(model, 2, 4.0, seed=5)
    change_in_place(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora" in name:
                parameter.add_(0.1)


def load_others(model):
    model.load_state_dict(model_of("batched", seed=11).state_dict())


def load_and_assign(model):
    model.load_state_dict(model_of("batched", seed=11).state_dict(), assign=True)


def give_gaps(model):
    """Rows that do not follow each other in memory."""
    parameter = model.energy_model.type_embedding
    parameter.data = parameter.data.repeat(1, 2)[:, ::2] * 1.1


def change_frequencies(model):
    with torch.no_grad():
        model.energy_model.radial.frequencies.mul_(1.01)


CHANGES = (change_in_place, give_other_data, replace_a_parameter, adapt_linear_layers)
CHANGES += (load_others, load_and_assign, give_gaps, change_frequencies)


@pytest.mark.parametrize(
    ("change", "training"),
    [
        pytest.param(
            *(change, training),
            id=f"{change.__name__}-{training}",
            marks=[pytest.mark.slow] * (not training and change not in CHANGES[:3]),
        )
        for change in CHANGES
        for training in (True, False)
    ],
)
def test_collected_weights_follow_changes(change, training):
    """Whatever is remembered of one step, the next has the weights of its own time; so has the one after it."""
    models = [model_of(kernel, bessel_trainable=False).train(training) for kernel in ("fused", "batched")]
    batch = batch_of([molecule(), crystal()], models[0])
    predict = numbers if training else predict_only
    for model in models:
        before = predict(model, batch)
    for model in models:
        change(model)
    for _ in range(2):
        found, expected = (predict(model, batch) for model in models)
        assert largest_difference(found, expected)[0] < 1e-9
        for model in models:
            change_in_place(model)
    assert not torch.allclose(before["forces"], found["forces"], rtol=1e-3)


def predict_only(model, batch):
    prediction = model(batch)
    return {"energy": prediction[fields.TOTAL_ENERGY], "forces": prediction[fields.FORCES]}


def test_the_same_edges_with_other_types():
    model = model_of("fused").eval()
    graph = graph_of(molecule(), model)
    first = model(graph)[fields.TOTAL_ENERGY]
    other = {**graph, fields.ATOM_TYPES: torch.tensor([0, 0, 1, 2, 2])}
    assert not torch.equal(model(other)[fields.TOTAL_ENERGY], first)
    assert torch.equal(model(other)[fields.TOTAL_ENERGY], model_of("fused").eval()(other)[fields.TOTAL_ENERGY])
    graph[fields.ATOM_TYPES][0] = 0  # in place, in the same tensor
    changed = {key: value.clone() for key, value in graph.items()}
    assert torch.equal(model(graph)[fields.TOTAL_ENERGY], model(changed)[fields.TOTAL_ENERGY])


def test_copies():
    """A copy shares the code, and nothing else; what is sent to another process makes it again."""
    model = model_of("fused").eval()
    graph = graph_of(molecule(), model)
    expected = model(graph)
    twin = copy.deepcopy(model)
    network, copied = model.energy_model.native.network, twin.energy_model.native.network
    assert copied.program is network.program
    assert torch.equal(twin(graph)[fields.FORCES], expected[fields.FORCES])
    twin.energy_model.native.network = pickle.loads(pickle.dumps(network))
    assert twin.energy_model.native.network._program is None
    assert torch.equal(twin(graph)[fields.FORCES], expected[fields.FORCES])


def test_impossible_edges():
    model = model_of("fused")
    graph = graph_of(molecule(), model)
    with pytest.raises(ModelError, match="out of range"):
        model({**graph, fields.ATOM_TYPES: torch.full((5,), 3)})
    edges = graph[fields.EDGE_INDEX].clone()
    edges[1, 0] = 5
    with pytest.raises(ModelError, match="out of range"):
        model({**graph, fields.EDGE_INDEX: edges})


def test_converted_weights():
    model = model_of("fused")
    graph = graph_of(molecule(), model)
    with pytest.raises(ModelError, match=r"the weights are no longer torch\.float64\n.*model_dtype"):
        model.float()(graph)


def test_other_types_of_numbers():
    model = model_of("fused").eval()
    graph = graph_of(molecule(), model)
    positions = graph[fields.POSITIONS].float()
    short = {**graph, fields.POSITIONS: positions, fields.ATOM_TYPES: graph[fields.ATOM_TYPES].int()}
    short[fields.EDGE_INDEX] = graph[fields.EDGE_INDEX].int()
    short[fields.EDGE_CELL_SHIFT] = graph[fields.EDGE_CELL_SHIFT].float()
    expected, found = model({**graph, fields.POSITIONS: positions.double()}), model(short)
    assert torch.equal(found[fields.PER_ATOM_ENERGY], expected[fields.PER_ATOM_ENERGY])
    assert torch.equal(found[fields.FORCES], expected[fields.FORCES])


def test_other_devices():
    model = model_of("fused")
    with pytest.raises(ModelError, match=r"runs on CPUs only\n.*model\.kernel=auto"):
        model.energy_model.native.supports(torch.device("meta"))
    auto = model_of("auto").to("meta")
    assert auto.kernel_in_use == "auto: batched, torch operations (compiled C code runs on CPUs only)"
    assert not auto.accepts_skin_edges


def test_a_vector_that_is_not_finite_is_seen():
    model = model_of("fused").eval()
    graph = graph_of(molecule(), model)
    graph[fields.POSITIONS][0, 0] = torch.nan
    prediction = model(graph)
    assert bool(prediction[fields.TOTAL_ENERGY].isnan())
    assert bool(prediction[fields.FORCES].isnan().any())


def test_many_chunks():
    """Enough edges for several parts of the radial tables' gradients."""
    model, batched = model_of("fused"), model_of("batched")
    batch = collate([graph_of(crystal(), model)] * 100)
    assert batch[fields.EDGE_INDEX].shape[1] > 4 * 1024
    difference, where = largest_difference(numbers(model, batch), numbers(batched, batch))
    assert difference < 1e-10, where


# --- the compiler


def test_compiled_once(monkeypatch, tmp_path):
    monkeypatch.setenv("NEQUIP_LIKE_CACHE", str(tmp_path))
    compile_library(["int one(void) { return 1; }", "int two(void) { return 2; }"])
    monkeypatch.setattr(compiler, "_compile", lambda *_: pytest.fail("compiled again"))
    library = compile_library(["int one(void) { return 1; }", "int two(void) { return 2; }"])
    assert (library.one(), library.two()) == (1, 2)


def test_no_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(ModelError, match=r"needs a C compiler, and there is none\n.*model\.kernel=batched"):
        compile_library(["int x;"])
    model = model_of("auto")
    assert model.kernel_in_use.startswith("auto: batched, torch operations (a C compiler, gcc or $CC")
    assert model(graph_of(molecule(), model))[fields.FORCES].shape == (5, 3)


def compiler_without(option, folder):
    """A compiler that knows all options but one."""
    script = folder / "cc"
    refusal = f'echo "error: unsupported option {option}" >&2; exit 1'
    script.write_text(f'#!/bin/sh\ncase "$*" in *{option}*) {refusal};; esac\nexec {compiler.find_compiler()} "$@"\n')
    script.chmod(0o755)
    return str(script)


def test_compiler_without_threads(monkeypatch, tmp_path):
    """As Apple's."""
    batch = batch_of([molecule(), crystal()], model_of("batched"))
    expected = numbers(model_of("fused"), batch)
    monkeypatch.setenv("NEQUIP_LIKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CC", compiler_without("-fopenmp", tmp_path))
    model = model_of("auto")
    assert model.kernel_in_use.endswith(", one thread: the compiler has no OpenMP")
    difference, where = largest_difference(numbers(model, batch), expected)
    assert difference < 1e-13, where


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors have other registers")
@pytest.mark.parametrize("option", ["-mno-avx512f", "-mno-avx"])
def test_smaller_registers(monkeypatch, tmp_path, option):
    """Of a processor with AVX2, and of one without: other sizes of vectors and tiles."""
    batch = batch_of([molecule(), crystal()] * 4, model_of("batched"))
    expected = numbers(model_of("fused"), batch)
    script = tmp_path / "cc"
    script.write_text(f'#!/bin/sh\nexec {compiler.find_compiler()} "$@" {option}\n')
    script.chmod(0o755)
    monkeypatch.setenv("NEQUIP_LIKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CC", str(script))
    difference, where = largest_difference(numbers(model_of("fused"), batch), expected)
    assert difference < 1e-12, where


def test_auto_goes_on_without_a_compiler_that_works(monkeypatch, tmp_path):
    monkeypatch.setenv("NEQUIP_LIKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CC", compiler_without("-O2", tmp_path))
    model = model_of("auto")
    with pytest.warns(
        UserWarning, match=r"kernel is batched, which is slower: .* cannot compile the fused kernel: error"
    ):
        text = model.kernel_in_use
    assert text.startswith("auto: batched, torch operations (")
    assert text.endswith("unsupported option -O2)")
    assert model(graph_of(molecule(), model))[fields.FORCES].shape == (5, 3)  # and no second warning
    with pytest.raises(ModelError, match="cannot compile the fused kernel"):
        model_of("fused")(graph_of(molecule(), model))


def test_compiler_that_refuses(monkeypatch, tmp_path):
    monkeypatch.setenv("NEQUIP_LIKE_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"cannot compile the fused kernel: .*error"):
        compile_library(["this is not C"])
    assert list((tmp_path / "kernels").iterdir()) == []
