"""Where weights and data come from: the package index, the hub, and folders of the user."""
