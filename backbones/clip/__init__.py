"""CLIP models of OpenCLIP: images matched with texts."""

from zipeft.backbones.clip.backbone import CLIP

__all__ = ["CLIP"]
