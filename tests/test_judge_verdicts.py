"""Reading what a judge decided out of what it wrote: forms that real reviews have, and unclear ones."""

from __future__ import annotations

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
    "<think>3 4? No.</think>\n\n8 9", "3 4? No.</think>8 9",
]  # fmt: skip

UNREADABLE_SCORES = [
    "", "\n", "8", "eight nine", "Both are good. 8 9", "8. 9", "8:9", "8-9", "1-10", "1 to 10", "8 9 7", "8,9,7",
    "1 2 3 4 5 6 7 8 9 10", "0 5", "5 0", "11 5", "5 10.5", "80 90", "-3 5", "8 -9", "8/100 9/100", "8/5 9/5",
    "80% 90%",
    "8 9/5", "8 9th", "8.5.3 9", "9" * 400 + " 5", "Assistant 1: 8", "Assistant 1: 8\nAssistant 1: 9",
    "Assistant 1: 8,5\nAssistant 2: 9", "Assistant 1: -3\nAssistant 2: 9", "Assistant 1: 12\nAssistant 2: 9",
    "Assistant 1 gives 3 reasons, Assistant 2 gives 5", "Assistant 1: 3 good points\nAssistant 2: 2 good points",
    "1. Assistant 1 is clear\n2. Assistant 2 is not", "<think>8 9", "[[A]]",
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
        assert all(1 <= score <= 10 for score in found.scores)
        assert (found.winner == FIRST) == (found.scores[0] > found.scores[1])
    assert read_mark(text) is None or read_mark(text).winner in (FIRST, SECOND, TIE)


@given(st.integers(3, 20_000))
def test_long_texts_are_read_like_short_ones(length):
    """At 20,000 repetitions an expression that tries every way to match would not end."""
    for piece in ("8 ", "Assistant 1: ", "8" * 7, "scores ", " "):
        assert read_scores(piece * length) is None
        assert read_mark(piece * length) is None
    assert read_mark("[[A]] " * length) == Verdict(FIRST)


@pytest.mark.parametrize(
    ("text", "winner"),
    [
        ("[[A]]", FIRST),
        ("The second is clearer.\n\n[[B]]", SECOND),
        ("Both fail. **[[C]]**", TIE),
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
    ],
)
def test_marks(text, winner):
    found = read_mark(text)
    assert (found and found.winner) == winner
