"""Is this machine ready? What it has, what it can reach, and whether it computes what a CPU does."""
