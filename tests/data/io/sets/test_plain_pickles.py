"""Pickles: data come out as they went in, and nothing that a pickle names is run."""

import io
import os
import pickle
import pickletools
import struct
from collections import OrderedDict
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nequip_like.data.io.sets.plain_pickles import AttributeBag, load_plain, resolve_array
from nequip_like.errors import DataError

PROTOCOLS = [3, 4, 5]  # both programs write the highest


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(0, 3),
        torch.arange(6.0).reshape(2, 3).T,
        torch.arange(10)[3:7:2],
        torch.tensor(True),
        torch.tensor([1, 2], dtype=torch.int32),
        torch.tensor([1.5], dtype=torch.float16),
        torch.eye(3, dtype=torch.float64).expand(2, 3, 3),
    ],
    ids=range(7),
)
def test_tensors(tensor, protocol):
    array = load_plain(pickle.dumps({"t": tensor}, protocol), "a")["t"]
    assert array.dtype == tensor.numpy().dtype
    np.testing.assert_array_equal(array, tensor.numpy())


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.zeros((0, 3)),
        np.float64(3.5),
        np.arange(3, dtype=">i4"),
        np.array([True, False]),
        np.array(["a", "bc"]),
    ],
    ids=range(7),
)
def test_arrays(array, protocol):
    read = resolve_array(load_plain(pickle.dumps(array, protocol), "a"))
    np.testing.assert_array_equal(read, array)
    assert np.asarray(read).dtype == array.dtype


def test_arrays_of_objects_are_lists():
    assert resolve_array(load_plain(pickle.dumps(np.array([None, "a"]), 5), "a")) == [None, "a"]


def test_containers():
    value = {"a": [1, 2.5, None], "b": (True, "text", b"bytes"), "c": OrderedDict(d={1, 2})}
    assert load_plain(pickle.dumps(value, 5), "a") == value


class Runs:
    """Runs a command when it is unpickled by ``pickle``."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_code_is_not_run(tmp_path, protocol):
    content = pickle.dumps({"pos": Runs(tmp_path / "canary")}, protocol)
    with pytest.raises(DataError) as error:
        load_plain(content, "a.lmdb entry 3")
    assert error.value.message == f"a.lmdb entry 3 names '{os.system.__module__}.system', which is no data"
    assert not (tmp_path / "canary").exists()


def test_code_in_a_storage_is_not_run(tmp_path):
    """A tensor holds a second pickle, which torch reads with no restriction."""
    inner = pickle.dumps(Runs(tmp_path / "canary"), 2)

    class Tensor:
        def __reduce__(self):
            return torch.storage._load_from_bytes, (inner,)

    with pytest.raises(DataError, match="which is no data"):
        load_plain(pickle.dumps(Tensor()), "a")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", ["builtins.getattr", "builtins.eval", "torch.load", "numpy.load", "numpy.fromfile"])
def test_names(name):
    module, attribute = name.rsplit(".", 1)
    content = b"\x80\x04\x8c" + bytes([len(module)]) + module.encode()
    content += b"\x8c" + bytes([len(attribute)]) + attribute.encode() + b"\x93."
    with pytest.raises(DataError, match=rf"names '{name}', which is no data"):
        load_plain(content, "a")


def test_a_pickle_cannot_change_what_the_next_one_meets():
    """BUILD sets attributes of whatever it names: of a class or function of this package it must not."""
    build = b"\x80\x04\x8c\x19torch_geometric.data.data\x8c\x04Data\x93N}\x8c\x0c__setstate__K\x01s\x86b."
    with pytest.raises(DataError):
        load_plain(build, "a")
    assert callable(AttributeBag.__setstate__)
    reduced = pickle.dumps(torch.zeros(2))
    at = reduced.index(b"\x8c\x12_rebuild_tensor_v2\x94\x93")
    named = b"\x80\x04\x8c\x0ctorch._utils" + reduced[at : at + 20] + b"\x93N}\x8c\x01aK\x01s\x86b."
    for content in (named, reduced):
        try:
            load_plain(content, "a")
        except DataError:
            assert content is named


def test_a_type_of_numpy_cannot_be_made_of_objects():
    """An array of addresses out of a file's bytes would be read as objects."""
    content = pickle.dumps(np.arange(2.0), 5)
    for code in (b"O8", b"V8", b"M8"):
        with pytest.raises(DataError, match="is damaged"):
            load_plain(content.replace(b"\x8c\x02f8", b"\x8c\x02" + code), "a")


@pytest.mark.parametrize(
    ("size", "stride", "offset"), [((10**12,), (0,), 0), ((5,), (1,), 0), ((2,), (-1,), 1), ((2,), (1,), -1)]
)
def test_tensors_that_reach_beyond_their_numbers(size, stride, offset):
    class Tensor:
        def __reduce__(self):
            storage = torch.arange(4.0)._typed_storage()
            return torch._utils._rebuild_tensor_v2, (storage, offset, size, stride, False, OrderedDict())

    content = pickle.dumps(Tensor())
    if (size, stride) == ((2,), (-1,)):
        np.testing.assert_array_equal(load_plain(content, "a"), [1.0, 0.0])  # within, though torch has none of these
        return
    with pytest.raises(DataError, match="a is damaged"):
        load_plain(content, "a")


@pytest.mark.parametrize("opcode", [b"\x96", b"\x8e", b"r"], ids=["BYTEARRAY8", "BINBYTES8", "LONG_BINPUT"])
def test_sizes_that_are_not_there_take_no_memory(opcode):
    import tracemalloc

    size = struct.pack("<I", 2**32 - 1) if opcode == b"r" else struct.pack("<Q", 1 << 34)
    content = b"\x80\x05" + (b"N" if opcode == b"r" else b"") + opcode + size
    tracemalloc.start()
    with pytest.raises(DataError, match="is damaged"):
        load_plain(content, "a")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


SAMPLE = pickle.dumps({"pos": torch.zeros(2, 3), "n": np.arange(4), "t": "text"}, -1)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_damaged(data):
    """Either it is read, or there is one error."""
    content = bytearray(SAMPLE)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with suppress(DataError):
        load_plain(bytes(content), "a.lmdb entry 0")


def test_sample_has_what_it_is_about():
    names = {argument for _, argument, _ in pickletools.genops(io.BytesIO(SAMPLE)) if isinstance(argument, str)}
    assert {"_rebuild_tensor_v2", "_load_from_bytes", "dtype"} <= names
