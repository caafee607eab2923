"""Scores of answers by yes and no, as POPE has them (arXiv 2305.10355): they tell a model that says yes too often."""

from __future__ import annotations

from collections.abc import Sequence


def yes_no_scores(chosen: Sequence[int], right: Sequence[int], options: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return ``precision``, ``recall`` and ``f1`` of yes, and ``yes_share``, the part that is answered by yes.

    ``chosen`` and ``right`` are indices into the ``options`` of each question. A score that is undefined, such as the
    precision where no answer is yes, is 0. Empty where the options of a question are others than yes and no.
    """
    from sklearn.metrics import precision_recall_fscore_support

    if not options or any(sorted(map(str.lower, some)) != ["no", "yes"] for some in options):
        return {}
    said, true = (
        [some[index].lower() == "yes" for index, some in zip(indices, options, strict=True)]
        for indices in (chosen, right)
    )
    precision, recall, f1, _ = precision_recall_fscore_support(true, said, average="binary", zero_division=0.0)
    return {
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "yes_share": sum(said) / len(said),
    }
