"""The embedded CLIP: its weights and their card. The scripts that train it are in examples/icon-clip."""
