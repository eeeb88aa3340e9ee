"""Files that are written with our pickler are those of torch, byte by byte."""

import copyreg
import io
import pickle
from collections import OrderedDict

import pytest
import torch

from nequip_like.model.tensor_pickling import reduce_tensor, tensor_pickle

SHARED = torch.arange(12.0).reshape(3, 4)


class Named(torch.Tensor):
    """A class of its own."""


def with_attribute():
    tensor = torch.ones(2)
    tensor.note = "kept"
    return tensor


CONTENTS = {
    "numbers": {str(dtype): torch.arange(3).to(dtype) for dtype in (torch.float64, torch.float32, torch.int64)},
    "small numbers": [torch.ones(2, dtype=dtype) for dtype in (torch.bool, torch.uint8, torch.bfloat16, torch.int16)],
    "later numbers": torch.ones(2, dtype=torch.uint16),
    "scalar": torch.tensor(2.0),
    "empty": torch.empty(0, 3),
    "a tensor twice": [SHARED, SHARED],
    "views of one storage": [SHARED, SHARED[1:], SHARED.T, SHARED[:, ::2]],
    "gradients wanted": torch.ones(2, requires_grad=True),
    "of a graph": torch.ones(2, requires_grad=True) * 2,
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "class": Named([1.0]),
    "attribute": with_attribute(),
    "complex": torch.tensor([1 + 2j]),
    "conjugate": torch.tensor([1 + 2j]).conj(),
    "negative view": torch.tensor([1 + 2j]).conj().imag,
    "meta": torch.ones(2, device="meta"),
    "storages": [torch.ones(2).untyped_storage(), torch.ones(2)._typed_storage()],
    "plain values": {"a": [1, 2.5, None, True, "text", b"bytes", (1, 2)], 3: OrderedDict(x={})},
    "optimizer": {"state": {0: {"step": torch.tensor(3.0), "exp_avg": SHARED}}, "param_groups": [{"lr": 0.1}]},
}


def save(content, **arguments):
    buffer = io.BytesIO()
    torch.save(content, buffer, **arguments)
    return buffer.getvalue()


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.filterwarnings("ignore")  # torch's, about kinds of tensors that it is about to give up
def test_bytes_are_torchs(name):
    content = CONTENTS[name]
    assert save(content, pickle_module=tensor_pickle) == save(content)


def test_plain_tensors_are_not_torchs_business(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "__reduce_ex__", None)
    data = save({"weight": torch.ones(2)}, pickle_module=tensor_pickle)
    monkeypatch.undo()
    assert torch.load(io.BytesIO(data), weights_only=True)["weight"].tolist() == [1.0, 1.0]


def test_hooks_are_still_warned_of():
    tensor = torch.ones(2, requires_grad=True)
    tensor.register_hook(lambda gradient: None)
    with pytest.raises(UserWarning, match="backward hook"):  # warnings are errors here
        reduce_tensor(tensor)


def test_errors_are_torchs():
    tensor = torch.ones(2)
    with pytest.raises(RuntimeError, match="different types"):
        save([tensor, tensor.view(torch.int32)], pickle_module=tensor_pickle)


def test_others_pickle_as_before():
    assert pickle.Pickler is not tensor_pickle.Pickler
    assert torch.Tensor not in copyreg.dispatch_table
