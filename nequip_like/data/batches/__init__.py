"""What a batch holds: so many frames, atoms or edges; how frames are packed; what is said if it is too large."""
