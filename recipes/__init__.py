"""Published results as sweep files."""
