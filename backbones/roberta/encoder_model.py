"""Text encoders of ``transformers``: what a model must be to be one, for every method to join it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zipeft.backbones.transformers_models.kind import Kind, attentions, looks_back_only, why_not
from zipeft.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ENCODERS = "take an encoder such as roberta-base, xlm-roberta-base or bert-base-uncased"


def check(model: PreTrainedModel) -> None:
    """Raise ``UserError`` unless a model encodes token ids by layers that every method can join."""
    name, found = type(model).__name__, attentions(model)
    if not found or model.main_input_name != "input_ids":
        raise UserError(
            f"{name} is no text encoder with one attention a layer that goes through transformers' attention "
            f"interface{why_not(model)}: {ENCODERS}"
        )
    says_so = model.config.is_encoder_decoder or any(getattr(inside, "is_causal", False) for inside in found)
    has_weights = not any(parameter.is_meta for parameter in model.parameters())
    if says_so or (has_weights and looks_back_only(model, ENCODERS)):
        raise UserError(f"{name} is a decoder, in which a token does not see those behind it: {ENCODERS}")


ENCODER = Kind("AutoModel", "MODEL_MAPPING", check, ENCODERS, hidden_only=True)
