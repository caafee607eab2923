"""The embedded CLIP: its weights, their card, and the script that trains it."""
