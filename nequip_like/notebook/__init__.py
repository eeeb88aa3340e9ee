"""For notebooks: structures in, a potential with its errors, plots and predictions out."""
