"""The training loop, the data set that it reads, its parallel form, and what a training costs."""
