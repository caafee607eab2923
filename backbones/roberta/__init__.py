"""Encoders of transformers: RoBERTa, BERT and the models of their kind."""

from zipeft.backbones.roberta.backbone import Roberta

__all__ = ["Roberta"]
