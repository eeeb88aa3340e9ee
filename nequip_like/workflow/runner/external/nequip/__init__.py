"""NequIP itself as a trainer of the runner: its config is written here, and a script of its own runs it."""
