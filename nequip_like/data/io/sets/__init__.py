"""Data sets that other programs keep as arrays or in archives."""
