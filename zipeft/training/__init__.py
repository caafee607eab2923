"""The training loop, the data set and frozen trunk that it reads, its evaluation, its parallel form, and its costs."""
