"""Trainers of others: a process in an interpreter of its own, what it is asked, and what it tells (``messages.py``)."""
