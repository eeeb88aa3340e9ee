"""Several runs of one command: how they are listed, chosen, launched and noted."""
