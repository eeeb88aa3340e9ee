"""What a model is asked beyond its errors."""
