"""Train, test and deploy machine-learning interatomic potentials with PyTorch Lightning and Hydra."""

__version__ = "0.1.0"
