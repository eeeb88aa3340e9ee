"""Memory for gradients: of the right shapes, and known to be free or not."""

import torch

from nequip_like.nn.native.gradient_places import GradientPlaces

TENSORS = [torch.ones(2, 3), torch.ones(5, dtype=torch.float64), torch.ones(1), torch.ones(0, 4)]


def test_shapes_and_types():
    places = GradientPlaces(TENSORS, [True, True, False, True])
    assert places.tensors[2] is None
    for tensor, place in zip(TENSORS, places.tensors, strict=True):
        if place is not None:
            assert (place.shape, place.dtype, place.is_contiguous()) == (tensor.shape, tensor.dtype, True)
    places.tensors[0].fill_(1.0)
    places.tensors[1].fill_(2.0)
    assert places.tensors[0].tolist() == [[1.0] * 3] * 2
    assert places.tensors[1].tolist() == [2.0] * 5
    assert places.tensors[0].data_ptr() % 64 == places.tensors[1].data_ptr() % 64 == 0


def test_a_change_of_one_is_none_of_another():
    places = GradientPlaces(TENSORS, [True] * 4)
    before = places.tensors[2]._version
    places.tensors[0].add_(1.0)
    assert places.tensors[2]._version == before < places.tensors[0]._version


def test_whoever_holds_something():
    places = GradientPlaces(TENSORS, [True] * 4)
    assert places.are_free()
    parameter = torch.nn.Parameter(torch.zeros(2, 3))
    parameter.grad = places.tensors[0]
    assert not places.are_free()
    parameter.grad = None
    assert places.are_free()
    for holder in (lambda: places.tensors[0], lambda: places.tensors[1].detach(), lambda: places.tensors[0][1:],
                   lambda: places.tensors[2].numpy()):  # fmt: skip
        held = holder()
        assert not places.are_free()
        del held
        assert places.are_free()


def test_nobody_knows_without_torchs_count(monkeypatch):
    monkeypatch.setattr("nequip_like.nn.native.gradient_places._count_holders", None)
    assert not GradientPlaces(TENSORS, [True] * 4).are_free()
