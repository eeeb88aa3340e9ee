"""The Hydra configuration tree. Hydra finds a config package by its ``__init__.py``, so this file has to be here."""
