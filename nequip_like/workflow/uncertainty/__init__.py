"""Trainings that tell how far to trust what they train: committees, and the uncertainty of a single potential."""
