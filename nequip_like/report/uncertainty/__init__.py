"""Reports of uncertainties: of committees, and of how good they are."""
