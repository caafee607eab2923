"""Bad inputs for every command, drawn by a seed: flags, and files that somebody edited or something damaged.

A ``Case`` is a command on a copy of good files, an edit of that copy, and what must come of it: REFUSED, the SAME
output as without the edit, or EITHER of a refusal and an output, where the edit may have made another valid input.
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file

REFUSED, SAME, EITHER = "refused", "same", "either"

Edit = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """``files`` are the good files that the command needs; ``argv`` names them relative to the folder of the draw."""

    what: str
    files: tuple[str, ...]
    argv: tuple[str, ...]
    edit: Edit
    expected: str
    unedited: tuple[str, ...] = ()
    """The command whose output must be the same, where it is another."""


# --- flags ------------------------------------------------------------------------------------------------------------

NUL, LONG, HUGE = "a\0b", "y" * 300, str(10**30)
COUNTS = ("", " ", "x", "-1", "0", "1.5", "nan", HUGE, NUL)
NUMBERS = ("", "x", "nan", "inf", "-1", NUL)
NAMES = ("", " ", "no-such", LONG, NUL)
FOLDERS_TO_WRITE = ("", NUL, LONG, "/dev/null", "/dev/null/x", "file")
FILES_TO_WRITE = ("", NUL, LONG, "/dev/null/x", ".")
FILES_TO_READ = ("", NUL, LONG, "none", "/dev/null", "/dev/null/x", ".", "fifo")

RUN = ("run", "--backbone", "toy", "--task", "toy", "--method", "linear", "--seeds", "1", "--steps", "1")
RUN += ("--device", "cpu", "--results", "results")
GENERATE = ("generate", "words", "so good", "--template", "{instruction} end", "--max-new-tokens", "2")
JUDGE = ("judge", "a.jsonl", "b.jsonl", "--endpoint", "ENDPOINT", "--model", "x", "--retries", "0", "--out", "j.jsonl")
CONVERT = (
    "convert",
    "adapter.pth",
    "--backbone",
    "llama",
    "--checkpoint",
    "model",
    "--gate-activation",
    "tanh",
    "--out",
    "out",
)
SETTINGS = (
    *("", "x", "x=1", "lora.rank=2", "linear.x=1", "linear.learning_rate=-1", "linear.learning_rate=1e999"),
    *("linear.weight_decay=x", "linear.weight_decay=", "protocol.preset=quick", "protocol.optimizer=Adam"),
    *("protocol.epochs=", "protocol.clip=0", "protocol.clip=nan", "protocol.warmup=1", "protocol.max_steps=2"),
    *("task.examples=x", "toy.examples=9", "backbone.pretrained=2", "backbone.checkpoint=a\0b", "task.data_dir="),
)

FLAGS: dict[tuple[str, ...], dict[str, tuple[str, ...]]] = {
    RUN: {
        **{"--backbone": (*NAMES, "a/b", "toy_text"), "--task": (*NAMES, "toy/", "toy/x", "/", "toy_text")},
        **{"--method": (*NAMES, ",", "prefix", "linear,no"), "--checkpoint": ("", NUL), "--preset": (*NAMES, "paper")},
        **{"--seeds": (*COUNTS, "1,x", "4294967296,", ","), "--epochs": COUNTS, "--batch-size": COUNTS},
        **{"--micro-batch": COUNTS},
        **{"--steps": [count for count in COUNTS if count != "0"], "--device": ("", "gpu"), "--set": SETTINGS},
        **{"--trials": [count for count in COUNTS if count != "0"], "--precision": ("", "fp8")},
        **{"--results": FOLDERS_TO_WRITE, "--save-adapters": FOLDERS_TO_WRITE, "--data-dir": ("", NUL)},
        **{"--config": FILES_TO_READ, "--ray": ("",), "--ray-cpus": ("1", *COUNTS), "--ray-gpus": ("1", *NUMBERS)},
    },
    ("profile", "--backbone", "toy", "--meta"): {
        **{"--backbone": NAMES, "--checkpoint": ("", NUL), "--method": (*NAMES, "prefix"), "--batch-size": COUNTS},
        **{"--length": COUNTS, "--steps": COUNTS, "--image-size": (*COUNTS, "100000"), "--format": ("", "csv")},
        "--set": ("", "x", "x=1", "lora.rank=0", f"lora.rank={HUGE}", "toy.pretrained=true", "toy.x=1", "lora.x=1"),
    },
    ("evaluate", "adapter"): {
        **{"--backbone": (*NAMES, "toy_text"), "--checkpoint": ("", "x", NUL), "--data-dir": ("", NUL)},
        "ADAPTER": FILES_TO_READ,
    },
    GENERATE: {
        **{"--template": ("", "{x}", "no", "{", NUL), "--max-new-tokens": COUNTS, "--batch-size": COUNTS},
        **{"--temperature": NUMBERS, "--top-p": ("", "0", "2", "x", "nan", "0.5"), "--seed": ("", "x", "1.5")},
        **{"--file": FILES_TO_READ, "--out": ("x", *FILES_TO_WRITE), "--backbone": (*NAMES, "toy")},
        **{"--checkpoint": ("", "x", NUL), "ADAPTER": FILES_TO_READ},
        **{"--image": FILES_TO_READ, "--options": ("", "x", "x|", "x|x", "x|y", NUL)},
    },
    JUDGE: {
        **{
            "--questions": FILES_TO_READ,
            "--endpoint": ("", "x", "ftp://x", "http://", "http://\xff/", "http://x:y"),
        },
        **{"--model": ("", " ", "\udcff", NUL), "--api-key-env": ("", "NO_SUCH_VARIABLE"), "--protocol": ("", "x")},
        **{
            "--temperature": (*NUMBERS, "3"),
            "--max-tokens": COUNTS[:-2],
            "--workers": COUNTS[:-2],
            "--timeout": ("0", *NUMBERS),
        },
        **{
            "--retries": [count for count in COUNTS[:-2] if count != "0"],
            "--out": FILES_TO_WRITE,
            "ADAPTER": FILES_TO_READ,
        },
        "--json": FILES_TO_WRITE,
    },
    CONVERT: {
        **{"--backbone": (*NAMES, "toy"), "--checkpoint": (*NAMES, "file"), "--to": ("", "x", "peft", "llama-adapter")},
        **{
            "--length": (*COUNTS, "4", "5"),
            "--gate-activation": ("", "relu"),
            "--task": (*NAMES, "toy"),
            "--set": ("", "x.y=1"),
        },
        **{"--out": FOLDERS_TO_WRITE, "ADAPTER": FILES_TO_READ},
    },
    ("push", "adapter", "owner/name", "--dry-run"): {
        **{"--result": FILES_TO_READ, "--base-model": ("",), "--dataset": ("",), "ADAPTER": FILES_TO_READ},
    },
    ("pull", "owner/name", "--out", "out"): {
        **{"--out": FOLDERS_TO_WRITE, "--revision": ("", NUL), "ADAPTER": ("", "name", "a/b/c", "a b/c", NUL)},
    },
    ("lm-eval", "words", "--tasks", "arc_easy"): {
        **{"--batch-size": COUNTS, "--limit": COUNTS, "--few-shot": ("", "-1", "x"), "--max-length": COUNTS},
        **{"--tasks": ("",), "--backbone": NAMES, "--checkpoint": ("", "x"), "--include": FILES_TO_READ},
    },
    ("benchmark", "mme", "--backbone", "toy_vlm", "--data-dir", "mme", "--max-new-tokens", "2"): {
        **{"--batch-size": COUNTS, "--max-new-tokens": COUNTS, "--data-dir": FILES_TO_READ, "--out": FILES_TO_WRITE},
        **{"--backbone": (*NAMES, "toy"), "--checkpoint": ("", "x"), "--set": SETTINGS},
        "ADAPTER": ("", "pope", NUL),
    },
    ("leaderboard", "results", "--out", "pages", "--format", "csv"): {
        **{"--format": ("", "pdf"), "--out": FOLDERS_TO_WRITE, "ADAPTER": ("", NUL, LONG, "none", "/dev/null/x")},
    },
    ("validate", "results"): {"ADAPTER": ("", NUL, LONG, "none", "/dev/null/x")},
    ("fetch", "vtab"): {"--set": NAMES, "--data-dir": ("", NUL, "file"), "ADAPTER": ("no", "", "toy", "vtab/no", "/")},
    ("ls", "methods"): {"ADAPTER": ("", "x", NUL)},
}
"""Commands, and values that no option of theirs takes. ADAPTER stands for the first argument without a flag."""

GOOD_OF = {
    **{"evaluate": ("adapter",), "generate": ("words",), "judge": ("a.jsonl", "b.jsonl"), "push": ("adapter",)},
    **{"convert": ("adapter.pth", "model"), "lm-eval": ("words",), "run": ("results",), "validate": ("results",)},
    **{"leaderboard": ("results",), "benchmark": ("mme",)},
}
"""The good files that a command needs."""


def bad_flag(stream: random.Random) -> Case:
    argv = stream.choice(list(FLAGS))
    option = stream.choice(list(FLAGS[argv]))
    value = stream.choice(FLAGS[argv][option])
    if option == "ADAPTER":
        changed = (argv[0], value, *argv[2:])
    else:
        rest = list(argv)
        while option in rest:  # what the good command has of it makes room for the bad
            del rest[rest.index(option) : rest.index(option) + 2]
        changed = (*rest, f"{option}={value}") if stream.random() < 0.5 else (*rest, option, value)
        if value.startswith("-"):
            changed = (*rest, f"{option}={value}")
    return Case(f"{option} {value!r}", GOOD_OF.get(argv[0], ()), changed, _with_odd_files, REFUSED)


def bad_words(stream: random.Random) -> Case:
    """An option that is unknown, or without its value, or nonsense behind a command."""
    argv = stream.choice(list(FLAGS))
    flags = [flag for flag in FLAGS[argv] if flag.startswith("--") and flag != "--ray"]
    ends = [("--nope",), ("--nope=1",), ("-Z",)] + [(flag,) for flag in flags]
    if argv[0] not in ("validate", "leaderboard", "run", "profile", "lm-eval", "generate"):
        ends += [("one", "two", "three")]
    end = stream.choice(ends)
    return Case(f"... {' '.join(end)}", GOOD_OF.get(argv[0], ()), (*argv, *end), _with_odd_files, REFUSED)


def _with_odd_files(folder: Path) -> None:
    (folder / "file").write_text("text")
    os.mkfifo(folder / "fifo")


# --- bytes ------------------------------------------------------------------------------------------------------------


def _rewrite(name: str, change: Callable[[bytes], bytes]) -> Edit:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes())) and None


def _replace(name: str, make: Callable[[Path], Any]) -> Edit:
    def edit(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return edit


def _flipped(content: bytes, stream: random.Random) -> bytes:
    at = stream.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << stream.randrange(8)]) + content[at + 1 :]


def _spoiled(content: bytes, stream: random.Random) -> bytes:
    """Put a few bytes that are no UTF-8 between the letters."""
    at = stream.randrange(1, len(content))
    return content[:at] + b"\xff\xfe\xfd" + content[at:]


def damage(name: str, stream: random.Random, *, text: bool, optional: bool = False) -> tuple[str, Edit, str]:
    """Return what happens to a file whatever is in it. One that is ``optional`` may be missing or empty."""
    seed = stream.random()
    missing = EITHER if optional else REFUSED
    kinds: list[tuple[str, Edit, str]] = [
        ("is missing", _replace(name, lambda path: None), missing),
        ("is a folder", _replace(name, lambda path: path.mkdir()), missing),
        ("is a FIFO", _replace(name, os.mkfifo), missing),
        ("is empty", _rewrite(name, lambda content: b""), missing),
        ("is noise", _rewrite(name, lambda content: random.Random(seed).randbytes(200)), REFUSED),
        ("is cut", _rewrite(name, lambda content: content[: int(len(content) * seed)]), EITHER),
        ("has a bit flipped", _rewrite(name, lambda content: _flipped(content, random.Random(seed))), EITHER),
    ]
    if text:
        kinds += [
            ("is no UTF-8", _rewrite(name, lambda content: _spoiled(content, random.Random(seed))), REFUSED),
            ("is deep", _rewrite(name, lambda content: b"[" * 100_000), REFUSED),
        ]
    what, edit, expected = stream.choice(kinds)
    return f"{name} {what}", edit, expected


# --- JSON -------------------------------------------------------------------------------------------------------------

ODD = (None, True, 5, -1, 1.5, "x", "", [], {}, [[]], [None], {"x": 1}, 10**12, 10**400, float("nan"), "a\0b", LONG)


def places(value: Any, at: tuple = ()) -> Iterable[tuple]:
    """Yield the path to everything in a JSON value."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*at, key)
        yield from places(item, (*at, key))


def _reach(value: Any, at: tuple) -> Any:
    for key in at:
        value = value[key]
    return value


def _is_another_type(one: Any, other: Any) -> bool:
    numbers = (int, float)
    return type(one) is not type(other) and not (type(one) in numbers and type(other) in numbers)


def edited_json(name: str, stream: random.Random, content: Any) -> tuple[str, Callable[[Any], Any], bool]:
    """Return what is done to a JSON value, how, and whether it leaves something of another type, or less, or more."""
    at = stream.choice(list(places(content)))
    old, new = _reach(content, at), stream.choice(ODD)
    where = ".".join(map(str, at))

    def change(value: Any) -> Any:
        _reach(value, at[:-1])[at[-1]] = new
        return value

    def remove(value: Any) -> Any:
        del _reach(value, at[:-1])[at[-1]]
        return value

    def rename(value: Any) -> Any:
        holder = _reach(value, at[:-1])
        holder[f"{at[-1]}_"] = holder.pop(at[-1])
        return value

    kind = stream.choice(["change"] * 4 + ["remove"] + ["rename"] * isinstance(at[-1], str))
    if kind == "change":
        return f"{name}: {where} is {str(new)[:20]!r}", change, _is_another_type(old, new)
    return f"{name}: {where} {kind}d", remove if kind == "remove" else rename, True


def _edit_json(name: str, change: Callable[[Any], Any]) -> Edit:
    return _rewrite(name, lambda content: json.dumps(change(json.loads(content))).encode())


def _restyle(name: str, stream: random.Random) -> Edit:
    """Write the same JSON in another style."""
    indent = stream.choice([None, 0, 1, 7])
    return _rewrite(name, lambda content: json.dumps(json.loads(content), indent=indent, ensure_ascii=False).encode())


# --- adapters ---------------------------------------------------------------------------------------------------------

READERS = {
    "adapter": (("evaluate", "adapter"), ("push", "adapter", "owner/name", "--dry-run")),
    "words": (GENERATE, ("convert", "words", "--to", "llama-adapter", "--gate-activation", "none", "--out", "out")),
}
FREE = {"learning_rate", "head_learning_rate", "weight_decay", "gate_init", "prompt_std", "run", "squash", "data_dir"}
"""What of a record may be another value of its type."""


def adapter_record(stream: random.Random, good: Path) -> Case:
    folder = stream.choice(list(READERS))
    name, argv = f"{folder}/adapter.json", stream.choice(READERS[folder])
    draw = stream.random()
    if draw < 0.25:
        what, edit, expected = damage(name, stream, text=True)
    elif draw < 0.35:
        what, edit, expected = f"{name} in another style", _restyle(name, stream), SAME
    else:
        content = json.loads((good / name).read_text())
        what, change, wrong = edited_json(name, stream, content)
        edit = _edit_json(name, change)
        key = next((each for each in reversed(what.partition(":")[2].split()[0].split("."))), "")
        lenient = argv[0] == "push" or "chosen" in what or ".settings" in what
        expected = REFUSED if wrong and not lenient and key not in FREE | {"run", "layers"} else EITHER
    return Case(what, (folder,), argv, edit, expected)


def adapter_tensors(stream: random.Random, good: Path) -> Case:
    folder = stream.choice(list(READERS))
    name, argv = f"{folder}/adapter.safetensors", stream.choice(READERS[folder])
    if stream.random() < 0.3:
        what, edit, expected = damage(name, stream, text=False)
        expected = REFUSED if what.endswith("cut") else expected
        return Case(what, (folder,), argv, edit, expected)
    key = stream.choice(sorted(load_file(good / name)))
    to, odd = stream.choice([torch.int64, torch.bool, torch.uint8]), stream.choice([torch.nan, torch.inf, -torch.inf])
    changes: list[tuple[str, Callable[[torch.Tensor], dict[str, torch.Tensor]], str]] = [
        (f"holds {odd}", lambda x: {key: torch.cat([x.flatten()[1:], torch.tensor([odd])]).view(x.shape)}, REFUSED),
        (f"holds {to}", lambda x: {key: x.to(to)}, REFUSED),
    ]
    if argv[0] != "push":  # which has no model to compare with
        changes += [
            ("is missing", lambda x: {}, REFUSED),
            ("is renamed", lambda x: {f"{key}_": x}, REFUSED),
            ("is there twice", lambda x: {key: x, f"{key}_": x.clone()}, REFUSED),
            ("is longer", lambda x: {key: torch.cat([x, x])}, REFUSED),
            ("is empty", lambda x: {key: x[:0]}, REFUSED),
            ("is a scalar", lambda x: {key: x.sum()}, REFUSED),
            ("is in float64", lambda x: {key: x.double()}, REFUSED),
            ("is in bfloat16", lambda x: {key: x.bfloat16()}, REFUSED),
            ("is as it was", lambda x: {key: x}, SAME),
        ]
    what, change, expected = stream.choice(changes)

    def edit(folder: Path) -> None:
        tensors = load_file(folder / name)
        changed = change(tensors.pop(key))
        save_file({**tensors, **changed}, folder / name)

    return Case(f"{name}: {key} {what}", (folder,), argv, edit, expected)


# --- sweep files ------------------------------------------------------------------------------------------------------

SWEEP = {
    **{"backbone": ["toy"], "task": "toy", "method": ["linear"], "seeds": 1, "steps": 1, "device": "cpu"},
    **{"results": "results", "set": {"linear": {"weight_decay": 0.0001}}, "redo": False},
}


def _toml(content: dict[str, Any]) -> str:
    tables = {key: value for key, value in content.items() if key == "set" and isinstance(value, dict)}
    lines = [f"{key} = {json.dumps(value)}" for key, value in content.items() if key not in tables]
    for part, values in tables.get("set", {}).items():
        lines += [f"[set.{part}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def sweep_file(stream: random.Random) -> Case:
    name = stream.choice(["sweep.toml", "sweep.yaml"])
    written = _toml if name == "sweep.toml" else (lambda content: json.dumps(content, indent=1))  # JSON is YAML, too
    key = stream.choice(list(SWEEP))
    edits: list[tuple[str, Any, str]] = [
        (f"{key} is a list of lists", {**SWEEP, key: [[SWEEP[key]]]}, REFUSED),
        (f"{key} is misspelt", {**SWEEP, f"{key}x": 1}, REFUSED),
        (f"{key} is empty", {**SWEEP, key: ""}, REFUSED),
        ("method has a flag", {**SWEEP, "method": ["linear", "--redo"]}, REFUSED),
        ("set has a flag", {**SWEEP, "set": ["--redo"]}, REFUSED),
        ("seeds are many", {**SWEEP, "seeds": 10**30}, REFUSED),
        ("results is a number", {**SWEEP, "results": 1.5}, REFUSED),
        ("trials are true", {**SWEEP, "trials": True}, REFUSED),
        ("redo is 1", {**SWEEP, "redo": 1}, REFUSED),
        ("a NUL", {**SWEEP, "results": "a\0b"}, REFUSED),
        ("other order", dict(reversed(SWEEP.items())), SAME),
        ("as it was", SWEEP, SAME),
    ]
    if name == "sweep.yaml":
        odd = ["!!int 'x'", "!!bool 'x'", "!!timestamp x", "&a [*a]", "!!python/object:os.system {}", "*b", "'\\x00'"]
        edits += [(f"seeds is {tag}", f"backbone: toy\ntask: toy\nseeds: {tag}\n", REFUSED) for tag in odd]
        edits += [("seeds twice", "backbone: toy\ntask: toy\nseeds: 1\nseeds: 1\n", REFUSED)]
    what, content, expected = stream.choice(edits)

    def edit(folder: Path) -> None:
        (folder / name).write_text(content if isinstance(content, str) else written(content))

    if stream.random() < 0.35:
        happens, damaged, expected = damage(name, stream, text=True)
        expected = EITHER if happens.endswith("deep") else expected

        def both(folder: Path) -> None:
            (folder / name).write_text(written(SWEEP))
            damaged(folder)

        return Case(happens, ("results",), ("run", "--config", name), both, expected)
    return Case(f"{name}: {what}", ("results",), ("run", "--config", name), edit, expected, RUN)


# --- results ----------------------------------------------------------------------------------------------------------


def result_file(stream: random.Random, good: Path) -> Case:
    """An edit of the only result: its hash gives it away, so it is no longer valid and no page can be made of it."""
    name = next(file.relative_to(good).as_posix() for file in sorted((good / "one").rglob("*.json")))
    argv = stream.choice([("validate", "one"), ("leaderboard", "one", "--out", "pages", "--format", "csv")])
    if (draw := stream.random()) < 0.3:
        what, edit, expected = damage(name, stream, text=True)
        expected = REFUSED if not what.endswith(("missing", "folder", "cut")) else EITHER
    elif draw < 0.45:
        what, edit, expected = f"{name} in another style", _restyle(name, stream), SAME
    else:
        what, change, _ = edited_json(name, stream, json.loads((good / name).read_text()))
        edit, expected = _edit_json(name, change), REFUSED
    return Case(what, ("one",), argv, edit, expected)


# --- data -------------------------------------------------------------------------------------------------------------

COLUMNS = {"sentence": "good", "label": "positive"}


def _separated(rows: list[dict[str, Any]], delimiter: str) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


FORMATS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "tsv": lambda rows: _separated(rows, "\t"),
    "csv": lambda rows: _separated(rows, ","),
    "json": lambda rows: json.dumps(rows).encode(),
    "jsonl": lambda rows: b"".join(json.dumps(row).encode() + b"\n" for row in rows),
    "parquet": _parquet,
}


def rows_of(split: str) -> list[dict[str, Any]]:
    """Return sentences of which no two are the same, half of them good."""
    many = {"train": range(24), "dev": range(24, 32)}[split]
    return [{"sentence": f"{words(index)} {('bad', 'good')[index % 2]}", "label": index % 2} for index in many]


def words(index: int) -> str:
    """Return five words of the toys, for each index others."""
    return " ".join(("so", "it", "was", "the", "film", "a", "very", "end")[int(digit)] for digit in f"{index:05o}")


DATA_RUN = ("--method", "linear", "--seeds", "1", "--steps", "1", "--device", "cpu", "--results", "kept")
TEXTS = (
    "run",
    "--backbone",
    "toy_text",
    "--task",
    "glue",
    "--data-dir",
    "sst2",
    "--set",
    "glue.max_length=32",
    *DATA_RUN,
)
PICTURES = ("run", "--backbone", "toy", "--task", "folder", "--data-dir", "pictures", *DATA_RUN)
PICTURES += ("--set", "folder.image_size=16")


def text_table(stream: random.Random) -> Case:
    suffix, split = stream.choice(list(FORMATS)), stream.choice(["train", "dev"])
    name = f"sst2/{split}.{suffix}"
    rows, row = rows_of(split), stream.randrange(8)
    odd = stream.choice(["maybe", "", 2, -1, 0.5, None])

    def other(key: str, value: Any) -> list[dict[str, Any]]:
        return [{**each, key: value} if index == row else each for index, each in enumerate(rows)]

    edits: list[tuple[str, Callable[[], bytes], str]] = [
        ("has no rows", lambda: FORMATS[suffix](rows[:0]), REFUSED),
        ("has another class", lambda: FORMATS[suffix](other("label", "maybe")), REFUSED),
        ("has an empty text", lambda: FORMATS[suffix](other("sentence", "")), EITHER),
        ("has another column", lambda: FORMATS[suffix](rows).replace(b"sentence", b"sentense"), REFUSED),
        ("is as it was", lambda: FORMATS[suffix](rows), SAME),
    ]
    if suffix != "parquet":
        edits += [
            ("has an odd label", lambda: FORMATS[suffix](other("label", odd)), REFUSED),
            ("has a BOM", lambda: b"\xef\xbb\xbf" + FORMATS[suffix](rows), SAME),
            ("has a row of noise", lambda: FORMATS[suffix](rows) + b"\x01[,\t,\t,{", REFUSED),
        ]
    if suffix in ("tsv", "csv"):
        edits += [("has other line breaks", lambda: FORMATS[suffix](rows).replace(b"\n", b"\r\n"), SAME)]
    what, make, expected = stream.choice(edits)
    if suffix == "parquet" and what == "has another class":
        expected, make = REFUSED, lambda: FORMATS[suffix]([{**each, "label": "maybe"} for each in rows])

    def edit(folder: Path) -> None:
        for each in ("train", "dev"):
            (folder / f"sst2/{each}.tsv").unlink()
            (folder / f"sst2/{each}.{suffix}").write_bytes(FORMATS[suffix](rows_of(each)))
        (folder / name).write_bytes(make())

    if stream.random() < 0.4:
        what, damaged, expected = damage(name, stream, text=suffix != "parquet")
        what = what.removeprefix(f"{name} ")
        expected = EITHER if what == "is no UTF-8" and suffix == "parquet" else expected
        first = edit
        make = lambda: FORMATS[suffix](rows)  # noqa: E731

        def edit(folder: Path) -> None:
            first(folder)
            damaged(folder)

    return Case(f"{name} {what}", ("sst2", "kept"), TEXTS, edit, expected)


def picture_folder(stream: random.Random, good: Path) -> Case:
    names = sorted(path.relative_to(good).as_posix() for path in (good / "pictures").rglob("*.png"))
    name = stream.choice(names)
    if stream.random() < 0.7:
        what, edit, expected = damage(name, stream, text=False)
        expected = EITHER if what.endswith(("missing", "folder", "FIFO", "flipped")) else REFUSED
        return Case(what, ("pictures", "kept"), PICTURES, edit, expected)
    kinds: list[tuple[str, Edit, str]] = [
        ("is a GIF by another name", _replace(name, lambda path: Image.new("RGB", (9, 9)).save(path, "GIF")), EITHER),
        ("has no pixels", _replace(name, lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n")), REFUSED),
        ("is a text", _replace(name, lambda path: path.write_text("a picture")), REFUSED),
        ("beside a hidden file", lambda folder: (folder / "pictures/.DS_Store").write_text("x") and None, SAME),
        ("without its class", lambda folder: _drop(folder / Path(name).parent), REFUSED),
    ]
    what, edit, expected = stream.choice(kinds)
    return Case(f"{name} {what}", ("pictures", "kept"), PICTURES, edit, expected)


def _drop(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


SQUAD = ("run", "--backbone", "wide", "--task", "squad", "--data-dir", "squad", *DATA_RUN)
SQUAD += ("--set", "squad.max_length=100", "--set", "squad.stride=8")


def squad_file(stream: random.Random, good: Path) -> Case:
    name = stream.choice(["squad/train-v1.1.json", "squad/dev-v1.1.json"])
    if (draw := stream.random()) < 0.35:
        what, edit, expected = damage(name, stream, text=True)
    elif draw < 0.5:
        what, edit, expected = f"{name} in another style", _restyle(name, stream), SAME
    else:
        what, change, _ = edited_json(name, stream, json.loads((good / name).read_text()))
        edit, expected = _edit_json(name, change), EITHER
    return Case(what, ("squad", "kept"), SQUAD, edit, expected)


LABELS = ("run", "--backbone", "toy_text", "--task", "labelling", "--data-dir", "conll", *DATA_RUN)
LABELS += ("--set", "labelling.max_length=64")


def conll_file(stream: random.Random, good: Path) -> Case:
    name = stream.choice(["conll/train.txt", "conll/dev.txt", "conll/test.txt"])
    if stream.random() < 0.4:
        what, edit, expected = damage(name, stream, text=True, optional="train" not in name)
        return Case(what, ("conll", "kept"), LABELS, edit, expected)
    at = stream.randrange(1, 8)

    def lines(change: Callable[[list[bytes]], list[bytes]]) -> Edit:
        return _rewrite(name, lambda content: b"\n".join(change(content.split(b"\n"))))

    edits: list[tuple[str, Edit, str]] = [
        ("has a line of one column", lines(lambda all: [*all[:at], b"lonely", *all[at:]]), REFUSED),
        ("has a line of five columns", lines(lambda all: [*all[:at], b"a b c d O", *all[at:]]), REFUSED),
        ("has an odd tag", lines(lambda all: [*all[:at], b"good X-Y-Z-", *all[at:]]), REFUSED),
        ("has more blank lines", _rewrite(name, lambda content: content.replace(b"\n\n", b"\n\n\n\n")), SAME),
        ("has other line breaks", _rewrite(name, lambda content: content.replace(b"\n", b"\r\n")), SAME),
        ("has a BOM", _rewrite(name, lambda content: b"\xef\xbb\xbf" + content), SAME),
    ]
    what, edit, expected = stream.choice(edits)
    return Case(f"{name} {what}", ("conll", "kept"), LABELS, edit, expected)


# --- models, checkpoints, answers -------------------------------------------------------------------------------------

SPEAK = ("generate", "--backbone", "llama", "--checkpoint", "model", "so good", "--template", "{instruction}")
SPEAK += ("--max-new-tokens", "1")


def model_folder(stream: random.Random, good: Path) -> Case:
    name = stream.choice(["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"])
    name = f"model/{stream.choice([name, name, name, 'model.safetensors'])}"
    optional = name.endswith(("generation_config.json", "tokenizer_config.json"))
    if name.endswith(".safetensors") or (draw := stream.random()) < 0.3:
        what, edit, expected = damage(name, stream, text=name.endswith("json"), optional=optional)
        expected = EITHER if optional else expected
    elif draw < 0.4:
        what, edit, expected = f"{name} in another style", _restyle(name, stream), SAME
    else:
        what, change, _ = edited_json(name, stream, json.loads((good / name).read_text()))
        edit, expected = _edit_json(name, change), EITHER
    return Case(what, ("model",), SPEAK, edit, expected)


def checkpoint(stream: random.Random, good: Path) -> Case:
    """A checkpoint of LLaMA-Adapter to convert."""
    name = "adapter.pth"
    if stream.random() < 0.35:
        what, edit, expected = damage(name, stream, text=False)
        return Case(what, ("adapter.pth", "model"), CONVERT, edit, expected)
    query, gate = "adapter_query.weight", f"layers.{stream.randrange(2)}.attention.gate"
    key = stream.choice([query, gate])
    odd = stream.choice([torch.nan, torch.inf, 1e300])
    number = stream.choice(["999999999", "01", "7", "-1", "1" * 5000, "x"])
    changes: list[tuple[str, Callable[[dict], Any], str]] = [
        (f"{key} holds {odd}", lambda state: state.update({key: state[key].double() * 0 + odd}), REFUSED),
        (f"{key} is missing", lambda state: state.pop(key), REFUSED),
        (f"{key} is empty", lambda state: state.update({key: state[key][:0]}), REFUSED),
        (f"{key} is whole", lambda state: state.update({key: state[key].long()}), REFUSED),
        (f"{key} is a list", lambda state: state.update({key: [1.0]}), REFUSED),
        (f"{key} is vast", lambda state: state.update({key: torch.ones(1, 1).expand(10**9, 32)}), REFUSED),
        (f"a gate of layer {number[:9]}", lambda s: s.update({f"layers.{number}.attention.gate": s[gate]}), REFUSED),
        ("something else", lambda state: state.update(lora=torch.zeros(1)), REFUSED),
        ("gates are zero", lambda state: [state.update({k: v * 0}) for k, v in state.items() if k != query], REFUSED),
        ("in bfloat16", lambda state: state.update({k: v.bfloat16() for k, v in state.items()}), EITHER),
        ("as it was", lambda state: None, SAME),
    ]
    what, change, expected = stream.choice(changes)

    def edit(folder: Path) -> None:
        state = torch.load(folder / name, weights_only=True)
        change(state)
        torch.save(state, folder / name)

    return Case(f"{name}: {what}", ("adapter.pth", "model"), CONVERT, edit, expected)


def peft_folder(stream: random.Random, good: Path) -> Case:
    argv = ("convert", "peft", "--backbone", "llama", "--checkpoint", "model", "--out", "out")
    name = stream.choice(["peft/adapter_config.json"] * 3 + ["peft/adapter_model.safetensors"])
    if name.endswith(".safetensors") or stream.random() < 0.3:
        what, edit, expected = damage(name, stream, text=name.endswith("json"))
    else:
        content = json.loads((good / name).read_text())
        key = stream.choice(["adapter_len", "adapter_layers", "peft_type", "base_model_name_or_path"])
        value = stream.choice(ODD)
        wrong = key != "base_model_name_or_path" or not (value is None or isinstance(value, str))
        what, expected = f"{name}: {key} is {str(value)[:20]!r}", REFUSED if wrong else EITHER
        edit = _rewrite(name, lambda _: json.dumps({**content, key: value}).encode())
    return Case(what, ("peft", "model"), argv, edit, expected)


def answers_file(stream: random.Random, good: Path) -> Case:
    name = stream.choice(["a.jsonl", "b.jsonl"])
    if stream.random() < 0.4:
        what, edit, expected = damage(name, stream, text=True)
        return Case(what, ("a.jsonl", "b.jsonl"), JUDGE, edit, expected)
    lines = [json.loads(line) for line in (good / name).read_text().splitlines()]
    row = stream.randrange(len(lines))
    at, value = stream.choice(["id", "instruction", "answer"]), stream.choice(ODD)

    def write(changed: list[Any]) -> Edit:
        return _rewrite(name, lambda _: b"".join(json.dumps(line).encode() + b"\n" for line in changed))

    def replaced(line: Any) -> list[Any]:
        return [*lines[:row], line, *lines[row + 1 :]]

    wrong = at != "instruction" and not isinstance(value, str)
    wrong = wrong and not (at == "id" and isinstance(value, int) and value is not True)
    edits: list[tuple[str, Edit, str]] = [
        (f"{at} is {str(value)[:20]!r}", write(replaced({**lines[row], at: value})), REFUSED if wrong else EITHER),
        (
            f"{at} is missing",
            write(replaced({k: v for k, v in lines[row].items() if k != at})),
            EITHER if at == "instruction" else REFUSED,  # the other file tells what was asked
        ),
        ("a line is a list", write(replaced([1])), REFUSED),
        ("a line is there twice", write([*lines, lines[row]]), REFUSED),
        ("a line is missing", write(lines[:-1]), REFUSED),
        ("in another order", write(lines[::-1]), EITHER),
        ("as it was", write(lines), SAME),
    ]
    what, edit, expected = stream.choice(edits)
    return Case(f"{name}: {what}", ("a.jsonl", "b.jsonl"), JUDGE, edit, expected)


# --- drawing ----------------------------------------------------------------------------------------------------------

GENERATORS: dict[Callable[..., Case], int] = {
    **{bad_flag: 30, bad_words: 6, adapter_record: 14, adapter_tensors: 10, sweep_file: 12, result_file: 8},
    **{text_table: 8, picture_folder: 5, squad_file: 5, conll_file: 4, model_folder: 6, checkpoint: 7, peft_folder: 4},
    answers_file: 5,
}
"""Who draws, and how often of all."""


def draw(seed: int, good: Path) -> Case:
    """Return a case; the same seed always gives the same."""
    stream = random.Random(seed)
    (generator,) = stream.choices(list(GENERATORS), GENERATORS.values())
    return generator(stream) if generator in (bad_flag, bad_words, sweep_file, text_table) else generator(stream, good)
