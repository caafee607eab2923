"""The nine sets of GLUE (Wang et al. 2019, arXiv 1804.07461): their columns and classes, and how a folder is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zipeft.api.data import Data
from zipeft.errors import UserError
from zipeft.formatting import counted
from zipeft.sources.hub_download import HubUnavailable, Repository
from zipeft.sources.named_sets import NamedSets, PublishedSet
from zipeft.text.assembly import TextExample, text_data
from zipeft.text.tables import Columns, as_class, as_score, as_text, find_split, read_table

REPOSITORY, REVISION = "nyu-mll/glue", "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
"""GLUE on the hub, and the commit that is read; its folders have the plain names of the sets."""

SCALE = (0.0, 5.0)
"""The ratings of STS-B: from nothing in common to the same meaning."""

TRAIN = ("train",)
DEV = ("dev", "validation", "valid", "val")
MATCHED, MISMATCHED = (tuple(f"{stem}_{kind}" for stem in DEV) for kind in ("matched", "mismatched"))
"""What the files of a split are called."""

MSR = "msr_paraphrase_{}.txt"
"""What Microsoft calls the files of MRPC."""

PAIR: Columns = (("sentence1",), ("sentence2",))
ENTAILMENT = ("entailment", "not_entailment")


@dataclass(frozen=True)
class GLUESet(PublishedSet):
    """A set of GLUE.

    The first of ``folders`` is the hub's.

    Args:
        texts: for each text, the names that its column may have.
        label: the names that the column of labels may have.
        classes: in the order of the hub's numbers; without any, labels are ratings on ``SCALE``.
        sizes: the published numbers of training and test examples.
        scores: the scores of a set with classes; the first one selects and ranks.
        bare: the columns of TSV files without a header.
        leave_out_cut: leave out lines that the published files cut in two; the hub's data lack them.
    """

    texts: Columns
    label: Sequence[str]
    classes: tuple[str, ...]
    sizes: tuple[int, int]
    scores: tuple[str, ...] = ("accuracy",)
    bare: tuple[str, ...] = ()
    leave_out_cut: bool = False


SETS = {
    "cola": GLUESet(
        ("cola",), (("sentence",),), ("label",), ("unacceptable", "acceptable"), (8551, 1043),
        scores=("matthews",), bare=("source", "label", "mark", "sentence"),
    ),
    "sst-2": GLUESet(("sst2", "sst"), (("sentence",),), ("label",), ("negative", "positive"), (67349, 872)),
    "mrpc": GLUESet(
        ("mrpc",), (("sentence1", "#1 string"), ("sentence2", "#2 string")), ("label", "quality"),
        ("not_equivalent", "equivalent"), (3668, 408), scores=("accuracy", "f1"),
    ),
    "sts-b": GLUESet(("stsb", "sts", "stsbenchmark"), PAIR, ("score", "label"), (), (5749, 1500)),
    "qqp": GLUESet(
        ("qqp",), (("question1",), ("question2",)), ("is_duplicate", "label"), ("not_duplicate", "duplicate"),
        (363846, 40430), scores=("accuracy", "f1"), leave_out_cut=True,
    ),
    "mnli": GLUESet(
        ("mnli", "multinli"), (("premise", "sentence1"), ("hypothesis", "sentence2")), ("gold_label", "label"),
        ("entailment", "neutral", "contradiction"), (392702, 9815),
    ),
    "qnli": GLUESet(("qnli",), (("question",), ("sentence",)), ("label",), ENTAILMENT, (104743, 5463)),
    "rte": GLUESet(("rte",), PAIR, ("label",), ENTAILMENT, (2490, 277)),
    "wnli": GLUESet(("wnli",), PAIR, ("label",), ENTAILMENT[::-1], (635, 71)),
}  # fmt: skip


NAMED = NamedSets.of("glue", SETS)


def hub_folder(name: str) -> Path:
    """Return the folder of a set in the hub's local cache; what it lacks is downloaded. Raises ``UserError``."""
    folder = SETS[name].folders[0]
    patterns = [f"{folder}/{split}*.parquet" for split in ("train", "validation")]

    def is_whole(copy: Path) -> bool:  # it may hold other sets only
        return all(any(copy.glob(pattern)) for pattern in patterns)

    try:
        copy = Repository(REPOSITORY, REVISION, "dataset").snapshot(patterns, is_whole)
        if not is_whole(copy):
            raise HubUnavailable("it has no such files")
    except HubUnavailable as reason:
        raise UserError(
            f"the hub did not give {folder} of {REPOSITORY} ({reason}): connect, or set HF_ENDPOINT to a hub that has "
            "it, or name a folder with --data-dir, or leave source empty to have the embedded sets"
        ) from reason
    return copy / folder


# --- reading one ------------------------------------------------------------------------------------------------------


def load_published(name: str, root: Path, source: str, limits: Mapping[str, int], seed: int) -> Data:
    """Return a set of GLUE from its folder.

    GLUE does not publish the labels of its test data, so the development data are the test data here, as in the
    literature; of MNLI the matched ones, and the mismatched ones are ``Data.shifted``.
    """
    published, notes = SETS[name], ["test: the published dev set, as the labels of GLUE's test set are not public"]
    if name == "mrpc" and (root / MSR.format("train")).exists() and not find_split(root, ("train",)):
        parts = _original_mrpc(root, notes)
    else:
        dev = (*MATCHED, *DEV) if name == "mnli" else DEV
        parts = {split: _read(root, name, split, stems, notes) for split, stems in (("train", TRAIN), ("test", dev))}
    shifted = {}
    if name == "mnli" and find_split(root, MISMATCHED):
        shifted["mismatched"] = _read(root, name, "mismatched", MISMATCHED, notes)
    for split, size in zip(("train", "test"), published.sizes, strict=True):
        if len(parts[split]) != size:
            notes.append(f"{len(parts[split]):,} of {split} where {size:,} are published")
    return text_data(
        name,
        parts,
        classes=published.classes,
        limits=limits,
        seed=seed,
        source=source,
        notes=notes,
        shifted=shifted,
    )


def _read(root: Path, name: str, split: str, stems: Sequence[str], notes: list[str]) -> list[TextExample]:
    if not (paths := find_split(root, stems)):
        raise UserError(f"{root} has no {' or '.join(stems)}: add {stems[0]}.tsv, .csv, .json, .jsonl or .parquet")
    return _examples(paths, SETS[name], split, notes)


def _examples(paths: Sequence[Path], published: GLUESet, split: str, notes: list[str]) -> list[TextExample]:
    """Return the examples of a split, named by their place in it, from 0, which is their number on the hub."""
    found: list[TextExample] = []
    left_out = 0
    for path in paths:
        columns = (*published.texts, published.label)
        table = read_table(path, columns, bare=published.bare, leave_out_cut=published.leave_out_cut)
        left_out += table.left_out
        for number, (*texts, label) in table.rows:
            place = table.place(number)
            scored = as_class(label, published.classes, place) if published.classes else as_score(label, *SCALE, place)
            found.append(TextExample(f"{split}/{len(found)}", tuple(as_text(text, place) for text in texts), scored))
    if left_out:
        notes.append(f"{counted(left_out, 'line')} of {split} with a wrong number of columns left out")
    return found


def _original_mrpc(root: Path, notes: list[str]) -> dict[str, list[TextExample]]:
    """Read the files that Microsoft gives. Which of the training data are GLUE's dev set stands in ``dev_ids.tsv``."""
    path, ids = root / MSR.format("train"), (("#1 id",), ("#2 id",))
    examples = _examples([path], SETS["mrpc"], "train", notes)
    if (root / "dev_ids.tsv").exists():
        listed = {pair for _, pair in read_table(root / "dev_ids.tsv", ids, bare=("#1 id", "#2 id")).rows}
        is_dev = [pair in listed for _, pair in read_table(path, ids).rows]
        sides: dict[str, list[TextExample]] = {"train": [], "test": []}
        for example, taken in zip(examples, is_dev, strict=True):
            sides["test" if taken else "train"].append(example)
        return sides
    notes[0] = "test: MRPC's own test set, as the folder does not say which of its examples are GLUE's dev set"
    return {"train": examples, "test": _examples([root / MSR.format("test")], SETS["mrpc"], "test", notes)}
