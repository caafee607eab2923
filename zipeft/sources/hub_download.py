"""Data sets of the Hugging Face hub: a hub that cannot be reached is found out in seconds, and in one line."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

CLIENTS = ("huggingface_hub", "datasets")
TIMEOUT = 15
"""Seconds."""


def ask(repository: str, revision: str = "") -> None:
    """Ask the hub for a data set. Raises what its client does if there is no answer, or if there is no such set.

    This question is asked once; a download is tried again for minutes where there is no network.
    """
    import huggingface_hub

    with quiet():
        huggingface_hub.HfApi().dataset_info(repository, revision=revision or None, timeout=TIMEOUT)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the hub's clients from telling of each attempt: what came of them is said in one line."""
    loggers = [logging.getLogger(name) for name in CLIENTS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def offline() -> Iterator[None]:
    """Let the clients take what is in their caches, and ask nothing."""
    import datasets
    import huggingface_hub

    places = (datasets.config, huggingface_hub.constants)
    before = [place.HF_HUB_OFFLINE for place in places]
    for place in places:
        place.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = value
