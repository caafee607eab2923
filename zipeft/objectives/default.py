"""The objective of a backbone where no task gives one: to measure the costs of methods, say."""

from __future__ import annotations

from zipeft.api.backbone import Backbone, ImageTextBackbone
from zipeft.api.language_backbone import LanguageBackbone
from zipeft.api.objective import Objective
from zipeft.objectives.classification import Classification
from zipeft.objectives.matching import Matching
from zipeft.objectives.responses import Responses


def default_objective(backbone: Backbone) -> Objective:
    """Return responses for a language model, matching for image and text, and classification for all else."""
    if isinstance(backbone, LanguageBackbone):
        return Responses()
    if isinstance(backbone, ImageTextBackbone):
        return Matching()
    return Classification()
