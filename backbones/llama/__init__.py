"""Decoders of transformers: LLaMA and the models of its kind."""

from zipeft.backbones.llama.backbone import Llama

__all__ = ["Llama"]
