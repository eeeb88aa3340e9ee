"""Runs of one file: train, fine-tune, resume, evaluate, infer, export, by our families or by trainers of others."""
