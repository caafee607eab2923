"""The commands of the console script ``zipeft``, one module each."""
