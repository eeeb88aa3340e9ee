"""What training writes into a checkpoint and inference reads from it."""

CHECKPOINT_KEY = "nequip_like"
CHECKPOINT_VERSION = 1
