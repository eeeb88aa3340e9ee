"""What is known of each frame of a data set, and equations made of it."""
