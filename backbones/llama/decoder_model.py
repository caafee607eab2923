"""Language models of ``transformers``: what a model must be to be one, for every method to join it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zipeft.backbones.transformers_models.kind import Kind, attentions, looks_back_only, why_not
from zipeft.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DECODERS = "take a decoder such as a LLaMA, Mistral, Qwen or Gemma"


def check(model: PreTrainedModel) -> None:
    """Raise ``UserError`` unless a model predicts next tokens by layers that every method can join."""
    name = type(model).__name__
    if not attentions(model) or model.main_input_name != "input_ids" or model.get_output_embeddings() is None:
        raise UserError(
            f"{name} is no language model with one attention a layer that goes through transformers' attention "
            f"interface{why_not(model)}: {DECODERS}"
        )
    has_weights = not any(parameter.is_meta for parameter in model.parameters())
    if model.config.is_encoder_decoder or (has_weights and not looks_back_only(model, DECODERS)):
        raise UserError(f"{name} is no decoder, for a token in it sees those behind it: {DECODERS}")
    if has_weights and not _logits_are_plain(model):
        raise UserError(f"{name} changes its logits after the last layer, which is not supported: {DECODERS}")


def _logits_are_plain(model: PreTrainedModel) -> bool:
    """Whether logits are the output embeddings' of the last hidden states, neither scaled nor capped."""
    import torch

    ids = torch.tensor([[0, 1]])
    with torch.no_grad():
        plain = model.get_output_embeddings()(model.base_model(input_ids=ids).last_hidden_state)
        return torch.allclose(model(input_ids=ids).logits, plain, rtol=1e-4, atol=1e-4)


DECODER = Kind("AutoModelForCausalLM", "MODEL_FOR_CAUSAL_LM_MAPPING", check, DECODERS, end_pads=True)
