"""What checks of a model found, and how it is shown: in a table, on a page, in pictures."""
