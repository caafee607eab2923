"""Tasks that ship with zipeft, one package a family; a third party registers its own the same way."""
