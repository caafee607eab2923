"""zipeft: which way of fine-tuning a few parameters is best on a frozen backbone, by how much, and at what cost."""

__version__ = "0.1.0"
