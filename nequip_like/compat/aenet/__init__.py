"""aenet's files: networks (.nn.ascii), structures (XSF) and tables of energies."""

from nequip_like.compat.aenet.energies import EnergyRow, read_energies, write_energies
from nequip_like.compat.aenet.potentials import read_aenet_potential, write_aenet_potential
from nequip_like.compat.aenet.xsf import write_xsf

__all__ = [
    "EnergyRow",
    "read_aenet_potential",
    "read_energies",
    "write_aenet_potential",
    "write_energies",
    "write_xsf",
]
