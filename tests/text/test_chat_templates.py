"""Chat templates of tokenizers: where a response begins, thoughts, dates, and templates that do not end."""

from __future__ import annotations

import threading
from datetime import datetime

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers
from transformers import PreTrainedTokenizerFast

from support.characters import tokenizer
from support.pictures import refusal
from zipeft.objectives.responses import Response, Responses
from zipeft.text import chat_templates, templates
from zipeft.text.thoughts import answer_of, without_thoughts

ASKED = templates.conversation("Name it.")
TALK = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}, *ASKED]

TURNS = "{%- for m in messages %}<{{ m.role }}>{{ m.content }}</s>{%- endfor %}"
OFF = "enable_thinking is defined and not enable_thinking"


def qwen3(written: str = "<think>\n\n</think>\n\n", asked: str = "<think>\n\n</think>\n\n", switch: str = OFF) -> str:
    """A template that puts a thought before the last response, and an empty one into the prompt where it is off."""
    return (
        "{%- for m in messages %}<{{ m.role }}>"
        "{%- if loop.last and m.role == 'assistant' and '</think>' not in m.content %}{{ '"
        + written
        + "' }}{%- endif %}"
        "{{- m.content }}</s>{%- endfor %}{%- if add_generation_prompt %}<assistant>"
        "{%- if " + switch + " %}{{ '" + asked + "' }}{%- endif %}{%- endif %}"
    ).replace("\n", "\\n")


def opened(begin: str, written: str = "") -> str:
    """A template whose prompt begins a thought, which a written response has not."""
    return (
        "{%- for m in messages %}<{{ m.role }}>{%- if m.role == 'assistant' %}{{ '" + written + "' }}{%- endif %}"
        "{{- m.content.split('</think>')[-1] }}</s>{%- endfor %}"
        "{%- if add_generation_prompt %}<assistant>{{ '" + begin + "' }}{%- endif %}"
    ).replace("\n", "\\n")


EMPTY = "<think>\n\n</think>\n\n"
KINDS = {
    "plain": (TURNS + "{% if add_generation_prompt %}<assistant>{% endif %}", "<assistant>", "yes</s>"),
    "Qwen3": (qwen3(), f"<assistant>{EMPTY}", "yes</s>"),
    "Qwen3 that writes the thought alone": (qwen3(switch="false"), f"<assistant>{EMPTY}", "yes</s>"),
    "Qwen3 that thinks always": (qwen3(asked="<think>\n", switch="true"), f"<assistant>{EMPTY}", "yes</s>"),
    "GLM-4.5": (qwen3("<think></think>\n", "<think></think>"), "<assistant><think></think>\n", "yes</s>"),
    "DeepSeek-V3.1": (qwen3("</think>", "</think>", "not thinking"), "<assistant></think>", "yes</s>"),
    "Nemotron 2": (opened("<think>\n"), f"<assistant>{EMPTY}", "yes</s>"),
    "Nemotron 2 that thinks in what is written": (
        opened("<think>\n\n", "<think>\n\n"),
        f"<assistant>{EMPTY}",
        "yes</s>",
    ),
    "Gemma 4": (
        opened("<|channel>thought\n<channel|>"),
        "<assistant><|channel>thought\n<channel|>",
        "yes</s>",
    ),
    "another form of thought, switched off": (
        qwen3(written="", asked="<silent>"),
        "<assistant>",
        "yes</s>",
    ),
    "Nemotron 3": (qwen3("<think></think>", "<think></think>"), "<assistant><think></think>", "yes</s>"),
    "DeepSeek-R1": (opened("<think>\n"), f"<assistant>{EMPTY}", "yes</s>"),
    "QwQ": (opened("<think>"), f"<assistant>{EMPTY}", "yes</s>"),
    "a prompt alone with an empty thought": (opened("<think></think>"), "<assistant><think></think>", "yes</s>"),
    "Magistral": (opened("[THINK]"), "<assistant>[THINK]\n\n[/THINK]\n\n", "yes</s>"),
    "gpt-oss": (
        opened("", "<|channel|>final<|message|>"),
        "<assistant><|channel|>final<|message|>",
        "yes</s>",
    ),
    "LLaMA 2": (opened("", " "), "<assistant>", " yes</s>"),
}


@pytest.mark.parametrize("messages", [ASKED, TALK], ids=["first", "later"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_template_writes_before_a_response_belongs_to_the_prompt(kind, messages):
    template, asked, answered = KINDS[kind]
    of = tokenizer(chat=template)
    prompt, response = templates.chat(of, messages, "yes")
    assert prompt.endswith(f"Name it.</s>{asked}")
    assert response == answered
    assert chat_templates.prompt_of(of, messages) == prompt


@pytest.mark.parametrize("kind", ["Qwen3", "DeepSeek-R1", "Nemotron 2", "LLaMA 2", "plain"])
def test_tokens_of_a_prompt_are_those_before_the_response(kind):
    of = tokenizer(chat=KINDS[kind][0])
    for answer in ("yes", "think", "<s> of it", "zipeft"):
        before, after = templates.tokens(of, "chat", "Name it.", "", (), answer)
        assert before == templates.prompt_ids(of, "chat", "Name it.")
        assert answer.replace(" ", "") in of.decode(after).replace(" ", "")


@pytest.mark.parametrize("written", ["{{ messages | length }}", "{{ messages[-1].content | upper }}", "<said>"])
def test_a_model_can_be_asked_where_nothing_can_be_learnt(written):
    of = tokenizer(chat=f"{{%- if add_generation_prompt %}}ask:<think>{{%- else %}}{written}{{%- endif %}}")
    assert chat_templates.prompt_of(of, ASKED) == f"ask:{EMPTY}"
    assert "does not put a response where it asks for one: set instruct.template=alpaca (zipeft generate:" in refusal(
        templates.chat, of, ASKED, "yes"
    )


def test_a_thought_in_a_response_is_refused_where_the_template_moves_it():
    of = tokenizer(chat=KINDS["Nemotron 2"][0])
    assert "rewrites the thought in a response: cut it" in refusal(templates.chat, of, ASKED, "<think>hm</think>yes")
    plain = tokenizer(chat=KINDS["plain"][0])
    assert templates.chat(plain, ASKED, "<think>hm</think>yes")[1] == "<think>hm</think>yes</s>"


# --- dates ------------------------------------------------------------------------------------------------------------

DATES = {
    "{{ strftime_now('%d %b %Y') }}": "26 Jul 2024",
    "{% set d = strftime_now('%B %d, %Y') %}Today is {{ d }}.": "Today is July 26, 2024.",
    "{%- if strftime_now is defined %}{{- 'Today: ' + strftime_now('%Y-%m-%d') }}{%- else %}never{%- endif %}": (
        "Today: 2024-07-26"
    ),
    "\n{{ strftime_now('%A') }}": "\nFriday",
    '{{ strftime_now("%a %-d \'%y") }}': "Fri 26 '24",
    "{{ strftime_now('%H:%M:%S') }}": "00:00:00",
    "{{ strftime_now('%I %p') }}": "12 AM",
    "{{ strftime_now('%j') }}": "208",
    "{% macro m() %}{{ strftime_now('%m/%d') }}{% endmacro %}{{ m() }}": "07/26",
    "{% for _ in messages %}{{ strftime_now('%Y') }}{% endfor %}": "2024",
    "{{ strftime_now('%x') }} {{ strftime_now('%B')[:3] }}": f"{datetime(2024, 7, 26):%x} Jul",
}


@pytest.mark.parametrize("template", DATES)
def test_a_prompt_is_of_the_same_day_whenever_it_is_made(template):
    assert chat_templates.prompt_of(tokenizer(chat=template), ASKED) == DATES[template]


# --- templates that do not end ----------------------------------------------------------------------------------------

LONG = "{% for a in range(99999) %}{% for b in range(99999) %}%s{% endfor %}{% endfor %}"
ENDLESS = {
    "silent": LONG.replace("%s", ""),
    "loud": LONG.replace("%s", "a"),
    "in a macro": "{% macro m(x) %}" + LONG.replace("%s", "{{ x }}") + "{% endmacro %}{{ m(1) }}",
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_template_without_an_end_is_stopped(kind, monkeypatch):
    monkeypatch.setattr(chat_templates, "SECONDS", 0.1)
    said = refusal(chat_templates.prompt_of, tokenizer(chat=ENDLESS[kind]), ASKED)
    assert said.endswith("refuses it (it takes more than 0.1 seconds)")


@pytest.mark.parametrize(
    "letters", ["'a' * 2000", "'%2000s' | format('')", "'a' | center(2000)", "['a'] * 2000 | join"]
)
def test_a_template_that_makes_too_much_is_refused(letters, monkeypatch):
    monkeypatch.setattr(chat_templates, "LETTERS", 1000)
    template = f"{{{{ {letters} }}}}" if "[" not in letters else "{{ (['a'] * 2000) | join }}"
    assert "(it makes 2,000 letters of them)" in refusal(chat_templates.prompt_of, tokenizer(chat=template), ASKED)


def test_a_template_is_read_in_other_threads_too():
    found = []
    of = tokenizer(chat=KINDS["plain"][0])
    thread = threading.Thread(target=lambda: found.append(chat_templates.prompt_of(of, ASKED)))
    thread.start()
    thread.join()
    assert found == ["<user>Name it.</s><assistant>"]


# --- a space before a text --------------------------------------------------------------------------------------------


def spaced() -> PreTrainedTokenizerFast:
    """A token a character, with the space before every text that LLaMA 2's tokenizer puts there."""
    special = ("<pad>", "<s>", "</s>")
    letters = "▁\nabcdefghijklmnopqrstuvwxyzN.<>/[]"
    vocabulary = {token: index for index, token in enumerate([*special, *letters, "▁y"])}
    fast = Tokenizer(models.BPE(vocabulary, [("▁", "y")]))
    fast.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    fast.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    return PreTrainedTokenizerFast(tokenizer_object=fast, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize("response", ["yes", "no", "y", "a b", "it is", "you y", "nay", "x", "yes yes", "zoo", "b y e"])
@pytest.mark.parametrize("space", ["", " "])
def test_a_response_of_a_chat_has_the_tokens_that_it_has_in_the_whole_text(space, response):
    of = spaced()
    of.chat_template = opened("", space)
    before, after = templates.tokens(of, "chat", "Name it.", "", (), response)
    together = of("".join(templates.chat(of, ASKED, response)), add_special_tokens=False)["input_ids"]
    assert [*before, *after] == together
    alpaca = templates.tokens(of, "{instruction}", "a", "", (), response)[1]
    assert of.convert_ids_to_tokens(alpaca)[0][0] == "▁"  # a word behind the last one of the prompt


# --- answers ----------------------------------------------------------------------------------------------------------

THOUGHTS = {
    "green lamp": "green lamp",
    f"{EMPTY}green lamp": "green lamp",
    "<think>\nGreen?\n</think>\n\ngreen lamp": "green lamp",
    "Green, as the prompt began.\n</think>\n\ngreen lamp": "green lamp",
    "  <think>a</think><think>b</think> green lamp ": "green lamp",
    "<think>\nno end": "",
    "<think>a</think> <think>b": "",
    "<thinking>a</thinking>green lamp": "green lamp",
    "[THINK]a[/THINK]green lamp": "green lamp",
    "<|channel>thought\na<channel|>green lamp": "green lamp",
    "<seed:think>a</seed:think>green lamp": "green lamp",
    "<|begin_of_thought|>a<|end_of_thought|> green lamp": "green lamp",
    "analysisThe user asks.assistantfinalgreen lamp": "green lamp",
    "analysisThe user asks.": "",
    "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>green lamp": "green lamp",
    "<|channel|>analysis<|message|>The user asks.": "",
    "an analysis of the lamp": "an analysis of the lamp",
    "analysis of the lamp": "analysis of the lamp",
    "I think <b>so</b>": "I think <b>so</b>",
    "": "",
}


@pytest.mark.parametrize("text", THOUGHTS)
def test_thoughts_are_no_part_of_an_answer(text):
    assert without_thoughts(text).strip() == THOUGHTS[text]


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("text", ["<think>hm</think>yes", "hm</think>yes", "<think></think> yes ", "yes", "yes</s>"])
def test_thoughts_are_seen_where_their_marks_are_special_tokens(special, text):
    of = tokenizer()
    of.add_tokens([AddedToken(mark, special=special, normalized=False) for mark in ("<think>", "</think>")])
    assert answer_of(of, of(text, add_special_tokens=False)["input_ids"]).replace(" ", "") == "yes"
    assert answer_of(of, of("<think>hm yes", add_special_tokens=False)["input_ids"]) == ""


def test_references_with_thoughts_are_compared_without_them():
    scores = Responses().score([Response(-1.0, 3, "green lamp")], [("<think>\nhm\n</think>\n\nGreen lamp.",)])
    assert (scores["exact_match"], scores["rouge_l"]) == (1, 1)
