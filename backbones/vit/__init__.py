"""Vision transformers of timm."""

from zipeft.backbones.vit.backbone import ViT

__all__ = ["ViT"]
