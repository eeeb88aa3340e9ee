"""A checkpoint from its first byte to its copy elsewhere; README.md tells its life in order."""
