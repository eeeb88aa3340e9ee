"""Potentials inside simulation packages. Import the module of yours, such as ``nequip_like.integrations.ase``."""
