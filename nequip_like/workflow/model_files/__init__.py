"""What ``nequip-model`` does, as functions: tell what a model is, verify it, compare two, and write a model card."""
