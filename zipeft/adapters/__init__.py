"""Saved adapters: their files, their cards, the hub that shares them, and the formats of others."""
