"""A search over configs: the study that keeps what was tried, and what ends runs that are not worth their time."""
