"""A tokenizer with a token a character, so that what it gives can be written by hand."""

from __future__ import annotations

import string

from tokenizers import AddedToken, Tokenizer, models, processors
from transformers import PreTrainedTokenizerFast

CHAT = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
"""The end of a message is the end token itself, as in most chat models."""

SPECIAL = ("<pad>", "<s>", "</s>")
PAD, BOS, EOS = range(3)
CHARACTERS = {character: index for index, character in enumerate(string.printable, len(SPECIAL))}
JOINT = len(SPECIAL) + len(CHARACTERS)
"""The one token of two characters, ":y"."""


def tokenizer(*, chat: str | None = CHAT, end: bool = True, around: str = "<s> $A </s>") -> PreTrainedTokenizerFast:
    """A token a character, but for ":y", which is one; texts are put between <s> and </s>, as some tokenizers do."""
    vocabulary = {**{token: index for index, token in enumerate(SPECIAL)}, **CHARACTERS, ":y": JOINT}
    fast = Tokenizer(models.BPE(vocabulary, [(":", "y")]))
    fast.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL])
    fast.post_processor = processors.TemplateProcessing(single=around, special_tokens=[("<s>", BOS), ("</s>", EOS)])
    made = PreTrainedTokenizerFast(
        tokenizer_object=fast, pad_token="<pad>", bos_token="<s>", eos_token="</s>" if end else None
    )
    made.chat_template = chat
    return made
