"""Layers of equivariant networks."""
