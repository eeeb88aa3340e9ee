"""What is looked for in data, one question a file: each check yields what it found, and how sure that is."""
