"""Prepare a process for a command before anything heavy is loaded, and load it quickly."""
