"""A config is checked as a whole before a folder is made or a file of data is opened."""
