"""The command ``nequip-model``."""
