"""The plainest objective that goes with a backbone, for what needs one but no data: the costs of methods, say."""

from __future__ import annotations

from zipeft.api.backbone import Backbone, ImageTextBackbone, LanguageBackbone
from zipeft.api.objective import Objective
from zipeft.objectives.classification import Classification
from zipeft.objectives.matching import Matching
from zipeft.objectives.responses import Responses


def plain_objective(backbone: Backbone) -> Objective:
    """Return responses for a language model, matching for image and text, and classification for all else."""
    if isinstance(backbone, LanguageBackbone):
        return Responses()
    if isinstance(backbone, ImageTextBackbone):
        return Matching()
    return Classification()
