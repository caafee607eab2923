"""Masks of batches whose padding is known are those that transformers finds itself, to the last bit."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from support.synchronisation import Waits, no_waiting
from support.toys import ToyDecoder, ToyEncoder
from zipeft.backbones.transformers_models.padding import PADDING

SIZE = {"vocab_size": 14, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


class Windowed(ToyDecoder):
    """A decoder whose tokens see four tokens back."""

    def build(self):
        torch.manual_seed(0)
        return MistralForCausalLM(MistralConfig(**SIZE, num_key_value_heads=2, sliding_window=4)).eval()


class Grouped(ToyDecoder):
    """A decoder whose heads share keys."""

    def build(self):
        torch.manual_seed(0)
        return LlamaForCausalLM(LlamaConfig(**SIZE, num_key_value_heads=1)).eval()


def example(length):
    ids = torch.randint(4, 14, (length,), generator=torch.Generator().manual_seed(length))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.mark.parametrize("kind", [ToyEncoder, ToyDecoder, Windowed, Grouped])
@pytest.mark.parametrize("lengths", [(7, 7), (7, 5, 2), (3, 3), (3, 1)])
def test_known_padding_changes_nothing_and_is_not_looked_for(kind, lengths):
    backbone = kind()
    model, batch = backbone.build(), backbone.collate([example(length) for length in lengths])
    assert len(batch[PADDING]) == sum(max(lengths) - length for length in lengths)
    unknown = {name: value for name, value in batch.items() if name != PADDING}
    with no_waiting():
        found = backbone.tokens(model, batch)
    assert torch.equal(found, backbone.tokens(model, unknown))
    if kind is not Windowed:  # which needs a mask in any case
        with pytest.raises(Waits), no_waiting():
            backbone.tokens(model, unknown)
