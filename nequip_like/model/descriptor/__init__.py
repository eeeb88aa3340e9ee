"""Descriptor networks: the energy of an atom from fixed features of its environment."""
