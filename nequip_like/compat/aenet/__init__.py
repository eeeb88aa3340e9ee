"""aenet's files: networks (.nn.ascii), structures (XSF) and tables of energies."""

from nequip_like.compat.aenet.energies import (
    EnergyRow,
    find_energy_scaling,
    read_energies,
    write_energies,
    write_energy_tables,
)
from nequip_like.compat.aenet.potentials import read_aenet_potential, write_aenet_committee, write_aenet_potential
from nequip_like.compat.aenet.xsf import write_xsf

__all__ = [
    "EnergyRow",
    "find_energy_scaling",
    "read_aenet_potential",
    "read_energies",
    "write_aenet_committee",
    "write_aenet_potential",
    "write_energies",
    "write_energy_tables",
    "write_xsf",
]
