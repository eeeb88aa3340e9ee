"""A model as a folder of artifacts: ``model.safetensors``, ``model.json`` and a ``manifest.json`` with their SHA-256."""

from nequip_like.artifacts.reading import read_artifacts
from nequip_like.artifacts.writing import write_artifacts

__all__ = ["read_artifacts", "write_artifacts"]
