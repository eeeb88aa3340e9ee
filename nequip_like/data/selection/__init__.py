"""Which frames of the data are trained on: those that a list names, and those that no limit leaves out."""
