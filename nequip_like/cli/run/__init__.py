"""The command ``nequip-run``."""
