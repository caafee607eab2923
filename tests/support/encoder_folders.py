"""Folders with tiny encoders of transformers."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from zipeft.backbones.roberta.backbone import Roberta
from zipeft.errors import UserError

WORDS = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", *"abcdefghijklmnop")


ROWS = 24
"""Rows of the position table."""


TINY = {
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": ROWS,
    "pad_token_id": 0,
}


KINDS = {
    "roberta": lambda: transformers.RobertaModel(transformers.RobertaConfig(**TINY, type_vocab_size=1)),
    "bert": lambda: transformers.BertModel(transformers.BertConfig(**TINY)),
    "electra": lambda: transformers.ElectraModel(transformers.ElectraConfig(**TINY, embedding_size=8)),
}


def drawn(model: torch.nn.Module) -> torch.nn.Module:
    """Give a model weights as large as a trained one's, its biases and norms included; none is what a build draws."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise * parameter[0].numel() ** -0.5 if parameter.dim() > 1 else parameter + 0.3 * noise)
    return model.eval()


def tokenizer() -> PreTrainedTokenizerFast:
    fast = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    fast.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    fast.enable_truncation(5)  # as the files of some checkpoints ask for
    fast.enable_padding(length=5)
    special = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    return PreTrainedTokenizerFast(tokenizer_object=fast, **special)


def saved(folder: Path, model: torch.nn.Module, **options) -> Path:
    drawn(model).save_pretrained(folder, **options)
    tokenizer().save_pretrained(folder)
    return folder


def encoded(backbone: Roberta, *texts: str) -> list[dict[str, torch.Tensor]]:
    return [{name: torch.tensor(ids) for name, ids in backbone.tokenizer()(text).items()} for text in texts]


def random_inputs(*lengths: int, vocabulary: int = len(WORDS)) -> dict[str, torch.Tensor]:
    """A batch of random ids of these lengths, none of which is the padding id, padded to the longest."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, vocabulary, (len(lengths), max(lengths)), generator=generator)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def refusal(checkpoint: object, pretrained: bool = True, look=Roberta.build) -> str:
    """The message with which a checkpoint is refused: one line, whatever is wrong."""
    with pytest.raises(UserError) as error:
        look(Roberta(str(checkpoint), pretrained))
    assert "\n" not in str(error.value)
    return str(error.value)


def assert_loaded(model: torch.nn.Module, original: torch.nn.Module) -> None:
    own, theirs = model.state_dict(), original.state_dict()
    assert own.keys() == {key for key in theirs if not key.startswith("pooler.")}
    assert all(torch.equal(value, theirs[key]) for key, value in own.items())


def digest_of(folder: Path) -> str:
    """The checksum of a folder of which all is read but an index: that of what sha256sum prints of its files."""
    files = sorted(file for file in folder.iterdir() if not file.name.endswith(".index.json"))
    listed = "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)
    return hashlib.sha256(listed.encode()).hexdigest()


def tiny(config: type, **changes: object) -> transformers.PreTrainedConfig:
    return config(**{**TINY, **changes})


OTHERS = {
    "decoder": lambda: tiny(transformers.LlamaConfig, num_key_value_heads=2),
    "causal tower": lambda: transformers.CLIPTextConfig(**TINY),
    "encoder and decoder": lambda: transformers.T5Config(
        vocab_size=20, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2
    ),
    "other attention": lambda: transformers.DistilBertConfig(vocab_size=20, dim=16, hidden_dim=24, n_heads=2),
    "shared layers": lambda: tiny(transformers.AlbertConfig, embedding_size=8),
    "pictures": lambda: transformers.ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2),
    "other inputs": lambda: tiny(transformers.Blip2QFormerConfig),
    "no plain model": lambda: transformers.EncoderDecoderConfig(
        encoder=tiny(transformers.BertConfig).to_dict(), decoder=tiny(transformers.BertConfig).to_dict()
    ),
}
