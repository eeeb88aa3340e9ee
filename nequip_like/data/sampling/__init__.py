"""How often training frames are drawn: all alike, or the more often the lower their energy or larger their error."""
