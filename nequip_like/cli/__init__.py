"""The commands. Nothing heavy is imported here, so that ``--help`` is quick."""
