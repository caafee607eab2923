"""Templates: how an instruction, perhaps with an input, becomes the prompt that a response follows.

"alpaca" is the template of Stanford Alpaca (Taori et al. 2023), which LLaMA-Adapter takes too; "chat" is the chat
template that a tokenizer brings; anything else is a text with the field ``{instruction}`` and perhaps ``{input}``.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from string import Formatter
from typing import TYPE_CHECKING

from zipeft.errors import did_you_mean, require
from zipeft.text import chat_templates
from zipeft.text.chat_templates import Messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ALPACA, CHAT = "alpaca", "chat"

WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
)
WITHOUT_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:"
)

FIELDS = ("instruction", "input")

History = Sequence[tuple[str, str]]
"""What was said before an instruction, as (role, content): perhaps by "system", then by "user" and "assistant"."""


def check(template: str) -> None:
    """Raise ``ValueError`` unless a template is "alpaca", "chat", or a text with its fields and no others."""
    if template in (ALPACA, CHAT):
        return
    said = f"template {reprlib.repr(template)}"
    hint = did_you_mean(template, (ALPACA, CHAT))
    require("{" in template, f"{said} has no field {{instruction}}: give alpaca, chat, or a text with the field{hint}")
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"{said} has a stray brace ({error}): write {{{{ or }}}} for a brace of its own") from None
    fields = [field for _, field, _, _ in parts if field is not None]
    for field in fields:
        require(field in FIELDS, f"{said} has the field {{{field}}}: it may have {{instruction}} and {{input}}")
    plain = not any(spec or conversion for _, _, spec, conversion in parts)
    require(plain, f"{said} has a field with a format: write {{instruction}} and {{input}} alone")
    require("instruction" in fields, f"{said} has no field {{instruction}}: the prompt needs it")


def takes_input(template: str) -> bool:
    """Whether a template has a place for an input beside the instruction."""
    return template in (ALPACA, CHAT) or any(field == "input" for _, field, _, _ in Formatter().parse(template))


def fill(template: str, instruction: str, given: str) -> str:
    r"""Return the prompt by a template other than "chat"; ``given`` is the input, "" for none.

    In a user's own template, ``\n`` stands for a line break, which a shell has no short way to type.
    """
    alpaca = WITH_INPUT if given else WITHOUT_INPUT
    text = alpaca if template == ALPACA else template.replace("\\n", "\n")
    return text.format(instruction=instruction, input=given)


def conversation(instruction: str, given: str = "", history: History = ()) -> list[dict[str, str]]:
    """Return an instruction as a message after others; its input follows after an empty line."""
    asked = f"{instruction}\n\n{given}" if given else instruction
    return [{"role": role, "content": content} for role, content in (*history, ("user", asked))]


def chat(tokenizer: PreTrainedTokenizerFast, messages: Messages, response: str) -> tuple[str, str]:
    """Return prompt and response, with what ends it, by the tokenizer's own chat template.

    What the template writes before a response belongs to the prompt, an empty thought too; the response is what stands
    behind it, without the white space at its end. Raises ``UserError`` if there is no template, if it refuses the
    messages, and if it rewrites the prompt once there is a response.
    """
    return chat_templates.prompt_and_response(tokenizer, messages, response)


# --- tokens -----------------------------------------------------------------------------------------------------------


def prompt_ids(
    tokenizer: PreTrainedTokenizerFast, template: str, instruction: str, given: str = "", history: History = ()
) -> list[int]:
    """Return the tokens of the prompt that a response follows, in training and afterwards.

    Raises ``UserError`` if there is no chat template, or it refuses the messages.
    """
    if template == CHAT:  # which writes out the tokens that begin a text
        return _ids(tokenizer, chat_templates.prompt_of(tokenizer, conversation(instruction, given, history)))
    return _begun(tokenizer, fill(template, instruction, given))


def tokens(
    tokenizer: PreTrainedTokenizerFast, template: str, instruction: str, given: str, history: History, response: str
) -> tuple[list[int], list[int]]:
    """Return the tokens of the prompt, and those of the response with one end token behind it.

    They are tokenised apart: over their joint a tokenizer may merge characters of both into one token, and a model that
    is asked for a response would then be given other tokens than it was trained on. Raises ``UserError`` as ``chat``.
    """
    if template == CHAT:
        prompt, response = chat(tokenizer, conversation(instruction, given, history), response)
        before, after = _ids(tokenizer, prompt), _continued(tokenizer, response)
    else:
        before, after = prompt_ids(tokenizer, template, instruction, given), _ids(tokenizer, response)
    end = tokenizer.eos_token_id
    return before, after if after[-1:] == [end] else [*after, end]


def _ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


def _continued(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Return the tokens of a text that goes on from another one.

    Some tokenizers, LLaMA 2's for one, put a space before all that they are given: behind a line break, which joins no
    other character, they do not. The texts of chat templates have all their spaces; a response to another prompt, which
    ends in a word, is better off with that one.
    """
    start = _ids(tokenizer, "\n")

    def behind(text: str) -> list[int]:
        return _ids(tokenizer, f"\n{text}")[len(start) :]

    return _ids(tokenizer, text) if behind("a") == _ids(tokenizer, "a") else behind(text)


def _begun(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Return the tokens of a text with what the tokenizer puts before one, but not with what it puts after it."""
    encoded = tokenizer(text, return_special_tokens_mask=True, verbose=False)
    ids, added = encoded["input_ids"], encoded["special_tokens_mask"]
    while added and added[-1]:
        added.pop()
    return ids[: len(added)]
