"""The report of a run as one HTML file that needs nothing else: what is in it, and how it is drawn."""
