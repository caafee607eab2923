"""Pages, tables and plots from result files."""
