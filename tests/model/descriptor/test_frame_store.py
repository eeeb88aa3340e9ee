"""Features and derivatives that are made once for each frame give what autograd gives, within a bound of memory."""

import copy
import pickle

import pytest
import torch
from ase import Atoms

from nequip_like.data import fields
from nequip_like.model import DescriptorANNModel
from nequip_like.model.descriptor.frame_store import FrameStore, PairBlocks, list_content_keys
from nequip_like.testing.derivatives import force_loss
from nequip_like.testing.structures import batch_of, crystal, molecule

ARGUMENTS = {
    "type_names": ["H", "C", "O"],
    "r_max": 3.5,
    "angular_cutoff": 3.0,
    "radial_order": 4,
    "angular_order": 3,
    "networks": [[5, "tanh"], [4, "twist"]],
    "model_dtype": "float64",
    "feature_stats": {"mean": [0.3] * 18, "std": [0.5] * 18},
    "E_scaling": 0.8,
}


def structures():
    """A molecule, a crystal, an atom, and a chain of which each atom sees few others."""
    chain = Atoms("CO" * 6, positions=[[1.4 * i, 0.1 * (i % 3), 0.2 * (i % 2)] for i in range(12)])
    return [molecule(), crystal(), Atoms("O"), chain]


def build(**changes):
    return DescriptorANNModel(**{**ARGUMENTS, **changes})


def losses_and_gradients(potential, batch):
    potential.zero_grad(set_to_none=True)
    prediction = potential(batch)
    loss = force_loss(prediction)
    loss.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in potential.named_parameters()}
    return prediction, gradients


@pytest.mark.parametrize("isolated", ["learnt", "exact"])
def test_predictions_and_gradients_are_those_of_autograd(isolated):
    potential = build(isolated_atoms=isolated).train()
    batch = batch_of(structures(), potential)
    prediction, gradients = losses_and_gradients(potential, batch)
    kinds = [isinstance(frame.jacobian, PairBlocks) for frame in potential.energy_model.store._frames.values()]
    assert kinds == [False, False, False, True]
    potential.energy_model._serves = True  # autograd from here on
    expected, expected_gradients = losses_and_gradients(potential, batch)
    assert potential.energy_model.store.num_made == 4
    for name in potential.predicted_fields:
        torch.testing.assert_close(prediction[name], expected[name], rtol=0, atol=1e-11, equal_nan=True)
    assert gradients.keys() == expected_gradients.keys()
    for name, value in expected_gradients.items():
        torch.testing.assert_close(gradients[name], value, rtol=1e-9, atol=1e-11)


def test_frames_are_made_once_and_shared_with_copies():
    potential = build().train()
    average = copy.deepcopy(potential).eval()
    batch = batch_of(structures(), potential)
    potential(batch)
    average(batch)
    potential(batch_of(structures()[::-1], potential))
    assert potential.energy_model.store.num_made == 4
    moved = {**batch, fields.POSITIONS: batch[fields.POSITIONS].clone()}
    moved[fields.POSITIONS][0, 0] += 1e-9
    potential(moved)
    assert potential.energy_model.store.num_made == 5
    elsewhere = pickle.loads(pickle.dumps(potential))
    assert len(elsewhere.energy_model.store) == 0
    torch.testing.assert_close(elsewhere(batch)[fields.FORCES], potential(batch)[fields.FORCES], rtol=0, atol=0)


def test_a_model_that_was_never_trained_keeps_nothing():
    potential = build().eval()
    potential(batch_of(structures(), potential))
    assert (potential.energy_model.store.num_made, len(potential.energy_model.store)) == (0, 0)


def test_what_exceeds_the_memory_is_made_anew():
    whole = build().train()
    batch = batch_of(structures(), whole)
    expected = whole(batch)[fields.FORCES]
    sizes = [frame.bytes for frame in whole.energy_model.store._frames.values()]
    assert whole.energy_model.store.bytes == sum(sizes)
    for limit, kept in ((0, 0), (sizes[0] + sizes[2], 2), (sum(sizes), 4), (sum(sizes) - 1, 3)):
        potential = build(frame_memory=limit / 1e9).train()
        for _ in range(2):
            torch.testing.assert_close(potential(batch)[fields.FORCES], expected, rtol=0, atol=0)
        store = potential.energy_model.store
        assert len(store) == kept
        assert store.bytes <= limit
        assert store.num_made == 4 + (4 - kept)


def test_energies_alone_need_no_derivatives():
    potential = build(do_derivatives=False).train()
    batch = batch_of(structures(), potential)
    energies = [potential(batch)[fields.TOTAL_ENERGY] for _ in range(2)]
    frames = list(potential.energy_model.store._frames.values())
    assert potential.energy_model.store.num_made == 4
    assert all(frame.jacobian is None for frame in frames)
    expected = build().eval()(batch)[fields.TOTAL_ENERGY]
    for energy in energies:
        torch.testing.assert_close(energy, expected, rtol=0, atol=1e-12)
        assert energy.requires_grad
    potential.do_derivatives = True
    potential(batch)
    assert potential.energy_model.store.num_made == 8
    assert len(potential.energy_model.store) == 4


def test_keys_tell_frames_apart():
    potential = build()
    one, other = molecule(), molecule()
    other.symbols[0] = "C"
    box, larger = crystal(), crystal()
    larger.cell[2, 2] += 1e-6
    keys = list_content_keys(batch_of([one, other, box, larger, one], potential))
    assert len(set(keys)) == 4
    assert keys[0] == keys[4]
    assert len(FrameStore(1e9)) == 0
