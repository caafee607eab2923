"""Methods that ship with zipeft, one file each; a third party registers its own the same way."""
