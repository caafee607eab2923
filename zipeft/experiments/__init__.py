"""Comparisons: what is planned, measured, and in which order, by this process or by many."""
