"""Facts and warnings about the data before a run: sizes, neighbours, and values that look wrong."""
