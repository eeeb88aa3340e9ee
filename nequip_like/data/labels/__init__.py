"""What the labels of a file are called, which units they have, and how much each of them counts."""
