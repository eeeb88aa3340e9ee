"""Prepared sets: frames with their neighbour lists in one file, read one by one while a model trains."""
