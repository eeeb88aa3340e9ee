"""Descriptors of atomic environments: Chebyshev expansions of distances and angles (aenet's AUC)."""
