"""What the commands do, as Python functions: everything a command does can be done from Python."""
