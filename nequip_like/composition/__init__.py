"""A config out of files, groups and overrides, as Hydra composes it, with errors that say what to write instead."""
