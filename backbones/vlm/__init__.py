"""Decoders that are shown an image: any registered language model with any registered image encoder."""

from zipeft.backbones.vlm.backbone import VLM

__all__ = ["VLM"]
