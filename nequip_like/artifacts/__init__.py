"""A model as a folder: ``model.safetensors``, ``model.json`` and a ``manifest.json`` with the SHA-256 of both."""

from nequip_like.artifacts.reading import read_artifacts
from nequip_like.artifacts.writing import write_artifacts

__all__ = ["read_artifacts", "write_artifacts"]
