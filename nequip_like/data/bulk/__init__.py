"""Many structures at once, without labels, as arrays: what predictions of long files are made of."""
