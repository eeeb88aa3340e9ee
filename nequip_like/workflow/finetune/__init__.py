"""Fine-tuning: what the config says, the model that a run begins with, and what is told of it."""
