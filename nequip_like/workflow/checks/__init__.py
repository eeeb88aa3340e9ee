"""What a model is asked beyond its errors: symmetry, derivatives, smoothness, dynamics, crystals, reference energies."""
