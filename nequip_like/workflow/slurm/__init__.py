"""Runs as jobs of SLURM: their tasks, the script that submits one, and when one is queued again."""
