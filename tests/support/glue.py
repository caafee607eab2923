"""Folders of GLUE's sets, and tables of texts."""

from __future__ import annotations

import csv
import json
import re

import pyarrow
from pyarrow import parquet

from support.pictures import SPLITS
from support.toys import split_of
from zipeft.tasks.glue.sets import SETS

NAMES = {
    "cola": "CoLA", "sst-2": "SST-2", "mrpc": "MRPC", "sts-b": "STS-B", "qqp": "QQP", "mnli": "MNLI", "qnli": "QNLI",
    "rte": "RTE", "wnli": "WNLI",
}  # fmt: skip


HUB_COLUMNS = {
    "cola": ("sentence",), "sst-2": ("sentence",), "qqp": ("question1", "question2"),
    "mnli": ("premise", "hypothesis"), "qnli": ("question", "sentence"),
}  # fmt: skip


GLUE_HEADERS = {
    "sst-2": "sentence label",
    "sts-b": "index genre filename year old_index source1 source2 sentence1 sentence2 score",
    "qqp": "id qid1 qid2 question1 question2 is_duplicate",
    "mnli": "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse "
    "sentence1 sentence2 label1 gold_label",
    "qnli": "index question sentence label",
    "rte": "index sentence1 sentence2 label",
    "wnli": "index sentence1 sentence2 label",
}


LABELS = {
    "cola": ("0", "1"), "sst-2": ("0", "1"), "mrpc": ("0", "1"), "qqp": ("0", "1"), "wnli": ("0", "1"),
    "mnli": ("entailment", "neutral", "contradiction"), "qnli": ("entailment", "not_entailment"),
    "rte": ("entailment", "not_entailment"),
}  # fmt: skip
"""Labels as GLUE's own files have them, in the order of the hub's numbers."""


def rows(name, split, count):
    """Return (texts, target) pairs; no two of any split have the same texts."""
    texts = 1 if name in ("cola", "sst-2") else 2
    made = []
    for index in range(count):
        said = tuple(f'{split} {index}, "so to say" ({part}); naïve' for part in range(texts))
        made.append((said, index % 11 / 2 if name == "sts-b" else index % len(LABELS[name])))
    return made


def spelt(name, target):
    return f"{target:.3f}" if name == "sts-b" else LABELS[name][target]


def write_glue(folder, name, split, content):
    """Write a split as GLUE's download has it."""
    if name == "cola":
        lines = [("gj04", spelt(name, target), "*" * (not target), *texts) for texts, target in content]
    elif name == "mrpc":
        header = ("\ufeffQuality", "#1 ID", "#2 ID", "#1 String", "#2 String")
        lines = [header, *((spelt(name, target), f"{i}", f"9{i}", *texts) for i, (texts, target) in enumerate(content))]
    else:
        header = GLUE_HEADERS[name].split()
        lines = [header]
        for texts, target in content:
            known = {"label": spelt(name, target), "score": spelt(name, target), "is_duplicate": spelt(name, target)}
            known |= {"gold_label": spelt(name, target), "label1": "neutral"}
            known |= dict(zip([c for c in header if re.fullmatch(r"(sentence|question)\d?", c)], texts, strict=True))
            lines.append([known.get(column, "x") for column in header])
    write(folder / f"{split}.tsv", "".join("\t".join(line) + "\n" for line in lines))


def write_label_first(folder, name, split, content):
    columns = ("sentence",) if name in ("cola", "sst-2") else hub_columns(name)
    header = ("score", "genre", *columns) if name == "sts-b" else ("label", *columns)
    lines = [header, *((spelt(name, target), *["x"] * (name == "sts-b"), *texts) for texts, target in content)]
    write(folder / f"{split}.tsv", "".join("\t".join(line) + "\r\n" for line in lines))


def hub_columns(name):
    return HUB_COLUMNS.get(name, ("sentence1", "sentence2"))


def records(name, content):
    return [
        {**dict(zip(hub_columns(name), texts, strict=True)), "label": target, "idx": index}
        for index, (texts, target) in enumerate(content)
    ]


def write_csv(folder, name, split, content):
    with open(folder / f"{split}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, (*hub_columns(name), "label", "idx"))
        writer.writeheader()
        writer.writerows(records(name, content))


def write_json(folder, name, split, content):
    write(folder / f"{split}.json", json.dumps(records(name, content), indent=1))


def write_lines(folder, name, split, content, suffix="jsonl"):
    write(folder / f"{split}.{suffix}", "".join(json.dumps(record) + "\n" for record in records(name, content)))


def write_json_lines(folder, name, split, content):
    write_lines(folder, name, split, content, "json")


def write_parquet(folder, name, split, content, classes=None, part="00000-of-00001"):
    """Write a split as the ``datasets`` library does: the label is a number, and the file knows its name."""
    table = pyarrow.Table.from_pylist(records(name, content))
    if classes:
        feature = {"label": {"names": classes, "_type": "ClassLabel"}, "idx": {"dtype": "int32", "_type": "Value"}}
        table = table.replace_schema_metadata({b"huggingface": json.dumps({"info": {"features": feature}}).encode()})
    parquet.write_table(table, folder / f"{split}-{part}.parquet")


def write_hub(folder, name, split, content):
    split = {"dev": "validation"}.get(split, split.replace("dev_", "validation_"))
    write_parquet(folder, name, split, content, list(SETS[name].classes))


FORMATS = {
    "glue": write_glue, "label first": write_label_first, "csv": write_csv, "json": write_json, "jsonl": write_lines,
    "json lines": write_json_lines, "parquet": write_hub,
}  # fmt: skip


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def published(root, name, kind="glue", train=40, dev=12):
    """Write a set in one of the ``FORMATS`` and return its folder."""
    folder = root / NAMES[name]
    folder.mkdir(parents=True)
    FORMATS[kind](folder, name, "train", rows(name, "train", train))
    FORMATS[kind](folder, name, "dev_matched" if name == "mnli" else "dev", rows(name, "dev", dev))
    return folder


def content(split):
    return list(zip(split.examples, split.targets, strict=True))


def contents(data):
    return {split: content(split_of(data, split)) for split in SPLITS}


def names_of(data):
    return {split: list(split_of(data, split).names) for split in SPLITS}
