"""NequIP's packages (``.nequip.zip``), read without NequIP: nothing that they hold is run.

A package is a zip file of PyTorch's ``torch.package``: NequIP's code, and a pickle of the model that names this code.
Of the pickle only the tensors are taken, and where they stand in the tree of modules. What it names is never imported:
in the place of each class or function there is an empty one, which keeps what it is given.
"""

from __future__ import annotations

import io
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import torch
import yaml
from torch import Tensor

from nequip_like.compat.nequip_models.contents import NequIPContent
from nequip_like.errors import ModelFileError

SUFFIX = ".nequip.zip"
_CONFIG, _METADATA, _MODEL = "model/config.yaml", "model/package_metadata.txt", "model/eager_model.pkl"
_LARGEST = 1 << 32  # bytes of one entry
_DEEPEST = 64  # modules in modules
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "LongStorage": torch.int64,
}
_WITH_CODE = "with --nequip-python PYTHON NequIP itself opens it, which runs its code: do so for files that you trust"


def read_package_module(path: Path) -> Any:
    """Read the section ``training_module`` of the config that a package carries.

    Raises:
        ModelFileError: If it is no package, or cut off or damaged.
    """
    with _opened(path) as package:
        config = _parse_yaml(_read_entry(package, path, _CONFIG), path)
    return config.get("training_module")


def read_package(path: Path, follow: Callable[[Path, Any], dict[str, Any]]) -> NequIPContent:
    """Read a package.

    Args:
        path: The ``.nequip.zip`` file.
        follow: Finds what builds the model; see :func:`~nequip_like.compat.nequip_models.contents.follow_config`.

    Returns:
        Its content; a package has the weights that NequIP evaluates.

    Raises:
        ModelFileError: If it is no package, is damaged, or holds anything but one NequIP model.
    """
    module = read_package_module(path)
    with _opened(path) as package:
        metadata = _parse_yaml(_read_entry(package, path, _METADATA), path)
        content = _read_entry(package, path, _MODEL)
        try:
            tree = _ModulePickle(io.BytesIO(content), package).load()
            state = dict(_list_tensors(_find_model(tree)))
        except Exception as error:  # of a damaged pickle: anything, from IndexError to UnicodeDecodeError
            raise ModelFileError(
                f"{path}: the model in it cannot be read without NequIP: {type(error).__name__}: {error}", _WITH_CODE
            ) from error
    weights = "ema" if isinstance(module, dict) and "EMA" in str(module.get("_target_")) else "raw"
    versions = metadata.get("versions")
    facts = {"kind": "package", "weights": weights, "versions": versions if isinstance(versions, dict) else {}}
    return NequIPContent(path, follow(path, module), state, facts)


class Stub:
    """An object of a class that is not imported: its attributes, as the pickle has them."""

    def __new__(cls, *arguments: Any, **keywords: Any) -> Stub:
        """Take what the class was made with, and forget it."""
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.__dict__.update({str(key): value for key, value in part.items()})

    def append(self, value: Any) -> None:
        """What is put into a list of a class of its own is forgotten."""

    def extend(self, values: Any) -> None:
        """See :meth:`append`."""

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


class _ModulePickle(pickle._Unpickler):
    """Python's own form, which is written in Python: that in C makes room for whatever number stands in the pickle."""

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, stream: io.BytesIO, package: zipfile.ZipFile) -> None:
        super().__init__(stream)
        self._package = package
        self._root = next(name for name in package.namelist() if name.endswith(_MODEL)).removesuffix(_MODEL)

    def persistent_load(self, identifier: Any) -> Any:
        kind, storage, key, *_ = identifier
        if kind != "storage" or not re.fullmatch(r"\d+", str(key)):
            return Stub()
        dtype = _STORAGES[storage]
        content = _read_whole(self._package, f"{self._root}.data/{key}.storage")
        return torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return name
        if (module, name) in _BUILDERS:
            return _BUILDERS[module, name]
        return type("Stub", (Stub,), {})  # a class of its own, as a pickle may change what it names

    def _load_bytearray(self: Any) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(size)))

    def _set_state(self: Any) -> None:
        # Of objects of this file only: tensors and functions have a state, too, which is not for a pickle to set.
        state = self.stack.pop()
        if not isinstance(self.stack[-1], Stub):
            raise pickle.UnpicklingError("what is no object has a state")
        self.stack[-1].__setstate__(state)

    dispatch[pickle.BYTEARRAY8[0]] = _load_bytearray
    dispatch[pickle.BUILD[0]] = _set_state


def _build_tensor(storage: Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    # torch refuses what lies outside of the storage; one number may be repeated by a stride of zero.
    tensor = storage.as_strided(tuple(size), tuple(stride), offset)
    if tensor.numel() > storage.numel():
        raise pickle.UnpicklingError("a tensor is larger than what it is stored in")
    return tensor.clone()


def _build_parameter(tensor: Tensor, *_: Any) -> Tensor:
    return tensor


_BUILDERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): dict,
    ("builtins", "set"): set,
    ("torch._utils", "_rebuild_tensor_v2"): _build_tensor,
    ("torch._utils", "_rebuild_parameter"): _build_parameter,
}


def _find_model(tree: Any) -> Any:
    """The one model of the tree, whose tensors NequIP calls ``model.func....``."""
    models = vars(tree).get("_modules")
    if not isinstance(models, dict) or list(models) != ["sole_model"]:
        raise pickle.UnpicklingError("one model is expected")
    return models["sole_model"]


def _list_tensors(module: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a tree of modules by their names, as ``state_dict`` gives them."""
    if depth > _DEEPEST:
        raise pickle.UnpicklingError("modules stand in each other")
    attributes = vars(module)
    left_out = attributes.get("_non_persistent_buffers_set") or ()
    for kind in ("_parameters", "_buffers"):
        for name, value in dict(attributes.get(kind) or {}).items():
            if isinstance(value, Tensor) and name not in left_out:
                yield f"{prefix}{name}", value
    for name, inner in dict(attributes.get("_modules") or {}).items():
        if isinstance(inner, Stub):
            yield from _list_tensors(inner, f"{prefix}{name}.", depth + 1)


# --- the zip file


class _opened:  # noqa: N801 (reads as a statement)
    """A package, open for reading; what is wrong with it is an error of the package."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> zipfile.ZipFile:
        try:
            self.file = zipfile.ZipFile(self.path)
        except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
            raise self._describe(error) from error
        return self.file

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.file.close()
        if isinstance(error, OSError | ValueError | zipfile.BadZipFile | NotImplementedError | EOFError | RuntimeError):
            raise self._describe(error) from error

    def _describe(self, error: BaseException) -> ModelFileError:
        reason = " ".join(str(error).split())
        return ModelFileError(
            f"{self.path} is no package of NequIP's, or is cut off or damaged: {reason}", "copy or make it again"
        )


def _read_entry(package: zipfile.ZipFile, path: Path, name: str) -> bytes:
    found = [entry for entry in package.namelist() if entry.endswith(f"/{name}")]
    if len(found) != 1:
        raise ModelFileError(f"{path} has no {name}: it is no package of NequIP's", "make it with nequip-package")
    return _read_whole(package, found[0])


def _read_whole(package: zipfile.ZipFile, name: str) -> bytes:
    entry = package.getinfo(name)
    # torch.package never compresses: more than the file has is a bomb.
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > _LARGEST:
        raise zipfile.BadZipFile(f"{name} is compressed, or too large")
    return package.read(entry)


def _parse_yaml(content: bytes, path: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError, UnicodeDecodeError) as error:
        raise ModelFileError(f"{path}: what describes its model is no YAML", "copy or make it again") from error
    return value if isinstance(value, dict) else {}
