"""Models of transformers that read text, from a folder or the hub: what ``roberta`` and ``llama`` share."""
