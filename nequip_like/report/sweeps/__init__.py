"""What came of several runs: their table, as text, CSV and a picture."""
