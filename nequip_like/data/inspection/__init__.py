"""What is told of the data before a run: sizes, neighbours, and what looks wrong."""
