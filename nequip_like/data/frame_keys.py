"""When two frames are the same structure: equal hashes."""

from __future__ import annotations

import hashlib

import torch

from nequip_like.data import fields
from nequip_like.data.fields import Graph

_DECIMALS = 5  # positions that agree to 1e-5 Angstrom are the same frame


def frame_key(frame: Graph) -> str:
    """Hash of a structure: species, positions, and its cell as far as it is periodic, to 1e-5 Angstrom."""
    pbc = frame[fields.PBC]
    cell = torch.where(pbc[..., None], frame[fields.CELL], torch.zeros_like(frame[fields.CELL]))
    digest = hashlib.sha256()
    digest.update(frame[fields.ATOMIC_NUMBERS].numpy().tobytes())
    digest.update(pbc.numpy().tobytes())
    for lengths in (frame[fields.POSITIONS], cell):
        digest.update(torch.round(lengths * 10**_DECIMALS).to(torch.int64).numpy().tobytes())
    return digest.hexdigest()
