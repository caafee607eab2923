"""Plots of a leaderboard, as SVG."""
