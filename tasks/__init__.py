"""Tasks that ship with zipeft, one file a family; a third party registers its own the same way."""
