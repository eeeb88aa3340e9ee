"""Runs that our own library does, in this process."""
