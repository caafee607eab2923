"""Reading what a judge decided out of what it wrote: forms that real reviews have, and unclear ones."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zipeft.judge.verdicts import FIRST, SECOND, TIE, Verdict, read_mark, read_scores

READABLE = [
    "8 9", "8, 9", "8,9", "8\t9", "8 | 9", "8; 9", "8 and 9", "8 vs. 9", "8.0 9.0", "[8, 9]", "(8, 9)", "8 9.",
    "8/10 9/10", "8 / 10, 9 / 10", "8 out of 10, 9 out of 10", "\n\n  8 9  \n", "8 9\r\nBoth are good.",
    "8 9 Assistant 2 is clearer.", "8 9 (assistant 1, assistant 2)", "8 9\n\n1. Assistant 1 names 3 reasons.",
    "**8** **9**", "**8 9**\n", "### 8 9", "`8 9`", "```\n8 9\n```", "> 8 9", "\uff18\u3000\uff19",
    "8\u00a09", "\ufeff8 9", "8\uff0c9",
    "Scores: 8 9", "The scores are: 8 and 9", "Rating: 8, 9", "Here are my scores:\n8 9", "**Scores**\n\n8 9",
    "Assistant 1: 8\nAssistant 2: 9", "Assistant 1: 8, Assistant 2: 9", "Assistant 1: 8 Assistant 2: 9",
    "Assistant 1: 8/10\n\nAssistant 2: 9/10\n\nThe second...", "**Assistant 1:** 8\n**Assistant 2:** 9",
    "- Assistant 1: 8 - short\n- Assistant 2: 9 - full", "Assistant 1 (8/10) and Assistant 2 (9/10)",
    "Assistant 2: 9\nAssistant 1: 8", "Score of Assistant A: 8\nScore of Assistant B: 9",
    "Assistant 1 gets 8, Assistant 2 gets 9",
    "<think>3 4? No.</think>\n\n8 9", "3 4? No.</think>8 9", "<thinking>3 4</thinking>8 9", "[THINK]3 4[/THINK]\n8 9",
    "analysisAssistant 1 gets 3 4.assistantfinal8 9", "8 9\nBoth...\nScores: 8 9", "8 9\n\nAssistant 2: 9",
    "I like both.\n\nScores:\nAssistant 1: 8\nAssistant 2: 9", "I like both.\n\nScores:\n8 9",
    "**Assistant 2** is clearer.\n\n### Final scores\nAssistant 1: 8, Assistant 2: 9",
]  # fmt: skip

UNREADABLE_SCORES = [
    "", "\n", "8", "eight nine", "Both are good. 8 9", "8. 9", "8:9", "8-9", "1-10", "1 to 10", "8 9 7", "8,9,7",
    "1 2 3 4 5 6 7 8 9 10", "0 11", "11 5", "5 10.5", "80 90", "-3 5", "8 -9", "8/100 9/100", "8/5 9/5",
    "80% 90%",
    "8 9/5", "8 9th", "8.5.3 9", "9" * 400 + " 5", "Assistant 1: 8", "Assistant 1: 8\nAssistant 1: 9",
    "Assistant 1: 8,5\nAssistant 2: 9", "Assistant 1: -3\nAssistant 2: 9", "Assistant 1: 12\nAssistant 2: 9",
    "Assistant 1 gives 3 reasons, Assistant 2 gives 5", "Assistant 1: 3 good points\nAssistant 2: 2 good points",
    "1. Assistant 1 is clear\n2. Assistant 2 is not", "<think>8 9", "[[A]]",
    "1 8\n2 7", "8 9\nOn second thoughts:\n9 8", "8 9 - no, 9 8", "8 9\n\nAssistant 1: 9\nAssistant 2: 8",
    "8 9\n**Scores: 9 9**", "Assistant 1: 8\nAssistant 2: 9\nAssistant 1: 7", "Scores:\nAssistant 1: 8\nThat is all.",
    "<thinking>8 9", "[THINK]\n8 9",
    "I like both.\nAssistant 1: 8\nAssistant 2: 9", "Scores:\n8 9\nare examples.\nScores:\n2 3",
]  # fmt: skip


@pytest.mark.parametrize("text", READABLE)
def test_scores_in_the_forms_that_judges_write(text):
    assert read_scores(text) == Verdict(SECOND, (8.0, 9.0))


@pytest.mark.parametrize("text", UNREADABLE_SCORES)
def test_what_is_no_pair_of_scores_is_no_verdict(text):
    assert read_scores(text) is None


@pytest.mark.parametrize("text", ["8.5 9", "8,5 9", "8.5/10 9/10", "Assistant 1: 8.5\nAssistant 2: 9"])
def test_scores_with_decimals(text):
    assert read_scores(text).scores == (8.5, 9.0)


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ("0 9\nAssistant 1 provided no answer at all", (0, 9)),
        ("9 0", (9, 0)),
        ("0 0", (0, 0)),
        ("0/10 10/10", (0, 10)),
        ("Neither is right.\n\nScores:\nAssistant 1: 1\nAssistant 2: 8", (1, 8)),
        ("Assistant 1: 0\nAssistant 2: 8", (0, 8)),
    ],
)
def test_an_answer_that_is_not_there_may_get_nothing(text, scores):
    assert read_scores(text).scores == scores


SCORES = st.integers(10, 100).map(lambda tenths: tenths / 10)
FORMS = [
    "{} {}",
    "{}, {}\nwhy",
    "**{}/10** {}/10",
    "Assistant 1: {}\nAssistant 2: {}",
    "\n\nScores: {} {} as A did 3 things",
]


@given(SCORES, SCORES, st.sampled_from(FORMS))
def test_higher_score_wins(first, second, form):
    found = read_scores(form.format(f"{first:g}", f"{second:g}"))
    assert found == Verdict(TIE if first == second else FIRST if first > second else SECOND, (first, second))


PIECES = st.sampled_from(
    [*"0123456789 \n.,/|-*:[]()%", "10", "Assistant 1", "Assistant 2", "assistant a", "score", "[[A]]", "[[b]]", "and",
     "out of 10", "<think>", "</think>", "\u00b2", "\u0663", "\u00bd", "1e5", "\ud800"]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(PIECES).map("".join)))
def test_no_text_breaks_the_reading(text):
    found = read_scores(text)
    if found:
        assert all(0 <= score <= 10 for score in found.scores)
        assert (found.winner == FIRST) == (found.scores[0] > found.scores[1])
    assert read_mark(text) is None or read_mark(text).winner in (FIRST, SECOND, TIE)


@given(st.integers(3, 20_000))
def test_long_texts_are_read_like_short_ones(length):
    """At 20,000 repetitions an expression that tries every way to match would not end."""
    for piece in ("8 ", "Assistant 1: ", "8" * 7, "scores ", " "):
        assert read_scores(piece * length) is None
        assert read_mark(piece * length) is None
    assert read_mark("[[A]]\n" * length) == Verdict(FIRST)


@pytest.mark.parametrize(
    "piece", ["9", "8 ", "\u0301\u0316", "[[A]]", "[", "</think>", "8 9\n", "analysis", "\ufdfa", " or "]
)
def test_a_reply_without_an_end_is_read_in_a_moment(piece):
    start = time.monotonic()
    text = piece * (300_000 // len(piece))
    read_scores(text)
    read_mark(text)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("text", "winner"),
    [
        ("[[A]]", FIRST),
        ("The second is clearer.\n\n[[B]]", SECOND),
        ("Both fail.\n**[[C]]**", TIE),
        ("Both fail. **[[C]]**", None),
        ("Final verdict: [[ b ]].", SECOND),
        ("\\[\\[A\\]\\]", FIRST),
        ("[[Tie]]", TIE),
        ("[[A]] would be wrong.\n[[B]]\nI hope that helps.", SECOND),
        ("<think>[[A]]</think>\n[[B]]", SECOND),
        ("<think>[[A]]", None),
        ("A", None),
        ("[A]", None),
        ("[[D]]", None),
        ("8 9", None),
        ("", None),
        ("[[A]] if A is better, [[B]] if B is, [[C]] if neither is", None),
        # a mark in other lines, or several
        ("[[A]]\n\n- [[A]]: A answered better\n- [[B]]: B answered better\n- [[C]]: neither did", FIRST),
        ("I weigh [[A]] or\n[[B]] or\n[[C]]. Let me compare", None),
        ("[[A]] or\n[[B]]", None),
        ("[[A]]\nor [[B]]\nor [[C]]", None),
        ("[[A]],\n[[B]],\n[[C]]: which one?", None),
        ("It is one of\n[[A]] or\n[[B]] or\n[[C]]", None),
        ("Assistant A wrote '[[B]]' in its text.", None),
        ("[[A]]\n[[B]]", None),
        ("[[A]] [[B]]", None),
        ("Assistant A ends with [[B]]", None),
        ("The verdict is not [[B]]", None),
        ("Is the verdict [[B]]?\nNo.\n[[A]]", FIRST),
        ("Verdict: [[A]], [[B]] or [[C]]", None),
        ("Choose one of [[A]], [[B]] and [[C]]:\n\n[[C]]", TIE),
        ("Assistant B says [[B]] wins.\n\nMy final verdict is: **[[A]]**", FIRST),
        ("[[A]]\nOn second thoughts:\n[[B]]", None),
        ("[[B]]\n\nFinal answer: [[B]]", SECOND),
        ("### Verdict\n\n- [[B]]", SECOND),
        ("Therefore, the winner is [[A]].", FIRST),
        ("$\\boxed{[[B]]}$", SECOND),
        ("\uff3b\uff3b\uff21\uff3d\uff3d", FIRST),
        # thoughts
        ("<thinking>\n[[A]]\n</thinking>\n[[B]]", SECOND),
        ("<thinking>\n[[A]]\n", None),
        ("[THINK]\n[[A]]\n[/THINK]\n\n[[C]]", TIE),
        ("[THINK]\n[[A]]\n", None),
        ("analysisWe compare.\n[[A]]\nassistantfinalB is better.\n[[B]]", SECOND),
        ("<reasoning>\n[[A]]\n</reasoning>[[B]]", SECOND),
        ("analysisWe compare.\n[[A]]", None),
        ("Analysis: B is better.\n[[B]]", SECOND),
    ],
)
def test_marks(text, winner):
    found = read_mark(text)
    assert (found and found.winner) == winner
