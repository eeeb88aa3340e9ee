"""What a module consists of is noticed to change, whichever way it does."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from nequip_like.nn.module_content import ModuleContent


class Shared(nn.Module):
    """Two layers with one weight, a buffer, a module without anything, and an empty place for a parameter."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)
        self.second.weight = self.first.weight
        self.register_buffer("table", torch.arange(3))
        self.register_parameter("later", None)
        self.idle = nn.Identity()


def test_tensors_are_listed_once():
    module = Shared()
    content = ModuleContent(module)
    assert [id(each) for each in content.parameters] == [id(each) for each in module.parameters()]
    assert [id(each) for each in content.buffers] == [id(module.table)]


def replace_parameter(module):
    module.first.bias = nn.Parameter(module.first.bias.detach().clone())


def replace_module(module):
    module.idle = nn.Identity()


def replace_buffer(module):
    module.table = module.table.clone()


def fill_empty_place(module):
    module.later = nn.Parameter(torch.zeros(1))


def add_to_a_module_that_had_nothing(module):
    module.idle.scale = nn.Parameter(torch.ones(1))


def move_one(module):
    """The number of tensors stays; the one that goes is the last of all."""
    module.idle.register_buffer("moved", module._buffers.pop("table"))


def swap(module):
    module.first, module.second = module.second, module.first


def delete(module):
    del module.second.bias


@pytest.mark.parametrize(
    "change",
    [
        *(replace_parameter, replace_module, replace_buffer, fill_empty_place, add_to_a_module_that_had_nothing),
        *(move_one, swap, delete),
    ],
    ids=lambda change: change.__name__,
)
def test_changes_are_noticed(change):
    module = Shared()
    content = ModuleContent(module)
    assert content.is_of(module)
    change(module)
    assert not content.is_of(module)
    assert ModuleContent(module).is_of(module)


def test_new_numbers_are_no_change():
    module = Shared()
    content = ModuleContent(module)
    with torch.no_grad():
        module.first.weight.add_(1.0)
    module.load_state_dict(Shared().state_dict())
    assert content.is_of(module)


def test_a_copy_is_another_module():
    module = Shared()
    assert not ModuleContent(module).is_of(copy.deepcopy(module))
