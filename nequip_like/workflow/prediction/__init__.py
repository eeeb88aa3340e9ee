"""Predictions of files: streamed in pieces, in order, and resumable."""
