"""Heads with their losses and scores: what turns a backbone's output into predictions."""
