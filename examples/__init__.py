"""Plug-ins in packages of their own, to read, to install and to start from: ``zipeft new`` copies them."""
