"""Small data sets made by ``tutorials/make_dataset.py``; CC0. Levels of theory and units stand in the files."""
