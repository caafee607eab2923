"""Answers compared by a language model that judges them in both orders."""
