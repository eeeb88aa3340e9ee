"""Sums of errors and their gradients in C."""
