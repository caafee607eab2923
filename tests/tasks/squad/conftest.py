"""Fixtures of the tests of this folder."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from support.squad import (
    byte_level,
    text_of,
    wordpiece,
)


@pytest.fixture(scope="module", params=[wordpiece, byte_level])
def backbone(request):
    """What windows need of a text backbone, with a tokenizer like BERT's or like RoBERTa's."""
    corpus = [text_of(300, seed) for seed in range(3)] + ["Who is it? What is the answer? A zorro"] * 50
    tokenizer = request.param(corpus)
    return SimpleNamespace(tokenizer=lambda: tokenizer, max_length=lambda: 512)
