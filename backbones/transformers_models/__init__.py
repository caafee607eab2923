"""Models of transformers from a folder or the hub, for every backbone that takes them."""
