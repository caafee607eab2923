"""Seventeen of the subtasks of Natural Instructions (Mishra et al. 2021, arXiv 2104.08773), as BIG-bench has them.

A subtask holds the instructions that the makers of a data set gave to crowd workers, the workers' inputs, and their
answers. Twelve subtasks are for training and test; five are for test alone, to see whether a tuned model follows
instructions that it has not been tuned on.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from zipeft.errors import UserError, one_line
from zipeft.tasks import bigbench_archive
from zipeft.tasks.instruct.data import SPLITS, Instruction, Record
from zipeft.text.assembly import split_by_group, words_of

NAME = "natural-instructions"

SEEN = (
    "subtask003_mctaco_question_generation_event_duration",
    "subtask005_mctaco_wrong_answer_generation_event_duration",
    "subtask010_mctaco_answer_generation_event_ordering",
    "subtask036_qasc_topic_word_to_generate_related_fact",
    "subtask038_qasc_combined_fact",
    "subtask039_qasc_find_overlapping_words",
    "subtask040_qasc_question_generation",
    "subtask041_qasc_answer_generation",
    "subtask042_qasc_incorrect_option_generation",
    "subtask046_miscellaenous_question_typing",
    "subtask050_multirc_answerability",
    "subtask051_multirc_correct_answer_single_sentence",
)
"""What is learnt: to ask, to answer, to answer wrongly, to judge, to sort, to find or join what two texts say. Inputs
are short, at the median 9 to 28 words, and so are answers: every word is paid for in training."""

UNSEEN = (
    "subtask033_winogrande_answer_generation",
    "subtask035_winogrande_question_modification_person",
    "subtask044_essential_terms_identifying_essential_words",
    "subtask045_miscellaneous_sentence_paraphrasing",
    "subtask047_misc_answering_science_questions",
)
"""What is never learnt: to fill a blank, to turn an answer round by a changed word, to pick the words that matter, to
paraphrase, to choose among options. ``SEEN`` asks for none of it, and none of the sources (WinoGrande, Essential Terms,
school examinations) is one of its sources (MCTACO, QASC, MultiRC, typed questions)."""

LONGEST = 40
"""Words. A longer input is left out. In Alpaca's template, the rest then has 160 tokens of SmolLM2 at most."""

POOL = 320
"""So many inputs of a subtask are taken at first, about as many as the smallest of ``SEEN`` has."""

MOST = {"train": 200, "validation": 20, "test": 50, "unseen": 150}
"""So many of a subtask are in a split at most; every one has as many as the one with the fewest."""

PASSAGE = 3
"""Words. What is as long is a passage, kept to one split; shorter answers and topics are not."""

SAID = {"prompt": "their short prompts", "definition": "their definitions", "full": "all that they say"}
"""Which part of a subtask's instruction is given, and words for it."""


def load(instructions: str, seed: int) -> tuple[Mapping[str, Sequence[Record]], list[str]]:
    """Return the records of each split, "unseen" among them, and notes of what they are.

    The subtasks of a source share its passages, and no passage is in two splits, whichever subtasks it is in. ``seed``
    decides what of the rest is validation data; the test data are the same whatever it is. ``instructions`` is one of
    ``SAID``. Raises ``UserError`` if the carrier cannot be had or is damaged.
    """
    seen = [record for records in read(SEEN, instructions) for record in _pool(records)]
    passages = [_passages(record) for record in seen]
    splits = dict(split_by_group(seen, passages, seed))
    known = {passage for some in passages for passage in some}
    others = [record for records in read(UNSEEN, instructions) for record in _pool(records)]
    splits["unseen"] = [record for record in others if known.isdisjoint(_passages(record))]
    notes = [
        f"{len(SEEN)} subtasks of Natural Instructions told by {SAID[instructions]}, and {len(UNSEEN)} unseen ones of "
        "other kinds and sources; as many records of each, no passage in two splits",
        "licence Apache-2.0",
        "a canary in the files asks to keep them out of pretraining corpora, so no text of them is in the results",
    ]
    return {split: _even(splits[split], MOST[split]) for split in (*SPLITS, "unseen")}, notes


def read(names: Sequence[str], instructions: str) -> list[list[Record]]:
    """Return the records of each of some subtasks, in the order of its file."""
    paths = bigbench_archive.benchmark_files(*(f"natural_instructions/{name}/task.json" for name in names))
    return [_read(path, name, instructions) for path, name in zip(paths, names, strict=True)]


def _read(path: Path, name: str, instructions: str) -> list[Record]:
    """Return the records of a file with inputs of up to ``LONGEST`` words; one that is there twice is one record, with
    the references of both."""
    found: dict[str, tuple[int, list[str]]] = {}
    try:
        content = json.loads(path.read_text("utf-8"))
        instruction = _instruction(content["task_prefix"], instructions)
        for index, example in enumerate(content["examples"]):
            references = found.setdefault(_tidied(example["input"]), (index, []))[1]
            references += filter(None, map(_tidied, example["target"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({one_line(error)}): delete it, and it is made again") from error
    return [
        Record(Instruction(instruction, given, name=f"{name}/{index}"), tuple(dict.fromkeys(references)), name)
        for given, (index, references) in found.items()
        if references and len(given.split()) <= LONGEST
    ]


def _instruction(prefix: str, part: str) -> str:
    """Return a part of what a subtask tells: "Definition: ... Things to Avoid: ... Prompt: ...", or all of it."""
    whole = " ".join(prefix.split())
    definition, avoid, _ = whole.removeprefix("Definition: ").partition(" Things to Avoid:")
    _, mark, prompt = whole.rpartition("Prompt: ")
    if not (avoid and mark and prompt):
        raise ValueError("its instruction lacks a part")
    return {"prompt": prompt, "definition": definition, "full": whole}[part]


def _tidied(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().split("\n"))


def _pool(records: Sequence[Record]) -> list[Record]:
    """Return ``POOL`` of the records of a subtask in a seeded order, one of each answer in turn: where nineteen answers
    in twenty are no, to say no is not what is to be learnt."""
    import numpy as np

    turns = Counter[str]()
    ranked: list[tuple[int, int, int]] = []
    for index in np.random.RandomState(0).permutation(len(records)).tolist():
        answer = words_of(records[index].references[0])
        ranked.append((turns[answer], len(ranked), index))
        turns[answer] += 1
    return [records[index] for _, _, index in sorted(ranked)[:POOL]]


def _passages(record: Record) -> list[str]:
    """Return the passages that a record may share with others, as ``words_of`` writes them: its whole input, and, if
    they are long enough, its lines (without labels such as "Fact 1:") and its references."""
    given = record.example.input
    parts = [re.sub(r"^[A-Z][\w ]*: ", "", line) for line in given.split("\n")]
    plain = [words_of(part) for part in (*parts, *record.references)]
    return [words_of(given), *(words for words in plain if len(words.split()) >= PASSAGE)]


def _even(records: Sequence[Record], most: int) -> list[Record]:
    """Return as many records of each subtask, the first ones."""
    count = min([most, *Counter(record.subtask for record in records).values()])
    seen, kept = Counter[str](), []
    for record in records:
        seen[record.subtask] += 1
        if seen[record.subtask] <= count:
            kept.append(record)
    return kept
