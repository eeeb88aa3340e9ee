"""A run folder belongs to one run: its name, who holds it, and which processes are part of the run."""
