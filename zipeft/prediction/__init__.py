"""What a training will need, before it runs: memory and hours, by steps of a model that has no weights."""
