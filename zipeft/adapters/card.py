"""The model card of a saved adapter: what it is, how it was trained, what it scores, how it is loaded."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from zipeft import registry
from zipeft.adapters.record import AdapterRecord
from zipeft.adapters.saved import TENSORS, objective_of, read_record, read_tensors
from zipeft.api.method import Method
from zipeft.errors import UserError
from zipeft.files import write_atomically
from zipeft.formatting import count, score_text, size
from zipeft.results import Result, read_records

CARD = "README.md"
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
HUB_SOURCE = re.compile(rf"hub ({HUB_NAME.pattern})@.*")
TRAINING = {field.name for field in fields(Method)}
"""Settings of a method that are about its training alone."""


def write_card(
    folder: Path, repository: str, *, result: Path | None = None, base_model: str = "", dataset: str = ""
) -> Path:
    """Write the card of an adapter into its folder, and return its path.

    Args:
        folder: of the adapter.
        repository: under which name it will be on the hub.
        result: the result file of the run that the adapter came from, for its scores.
        base_model: the backbone's name on the hub; "" for the one on record, where that is on the hub.
        dataset: the data set's name there; "" for that of the result, where it is from the hub.

    Raises: ``UserError`` if the folder holds no adapter, or the result is not that of its run.
    """
    record = read_record(folder)
    scores = _result_of(record, result) if result else None
    if not base_model and HUB_NAME.fullmatch(on_hub := record.backbone.checkpoint):
        base_model = on_hub
    if not dataset and scores and (source := HUB_SOURCE.fullmatch(scores.task.source)):
        dataset = source[1]
    sections = [
        _what(repository, record, _sizes(folder)),
        _training(record, scores),
        _scores(record, scores) if scores else "## Scores\n\nNone were given with this adapter.",
        _loading(repository, record),
    ]
    text = f"---\n{_front_matter(record, scores, base_model, dataset)}\n---\n\n" + "\n\n".join(sections) + "\n"
    write_atomically(Path(folder) / CARD, text.encode())
    return Path(folder) / CARD


def _result_of(record: AdapterRecord, path: Path) -> Result:
    """Return the result of the run that the adapter came from. Raises ``UserError`` for any other."""
    records, faults = read_records([path])
    if faults:
        raise UserError(f"{path}: {next(iter(faults.values()))}")
    results = {result.id: result for result in records.values() if isinstance(result, Result)}
    if not results:
        raise UserError(f"{path} is no result of a run: name the file of the run that the adapter came from")
    run = record.run
    if run not in results:
        wanted = f"its run has the id {run}" if run else "no run is on record for it, as for one that was converted"
        raise UserError(f"{path} does not have the scores of this adapter: {wanted}")
    return results[run]


def _front_matter(record: AdapterRecord, result: Result | None, base_model: str, dataset: str) -> str:
    from huggingface_hub import ModelCardData

    names = [part.name for part in (record.backbone, record.method, record.task)]
    base: dict[str, Any] = {"base_model": base_model, "base_model_relation": "adapter"} if base_model else {}
    return ModelCardData(
        **base,
        library_name="zipeft",
        tags=["zipeft", "parameter-efficient-fine-tuning", *dict.fromkeys(names)],
        datasets=[dataset] if dataset else None,
        metrics=[result.task.metric] if result else None,
    ).to_yaml()


def _what(repository: str, record: AdapterRecord, sizes: tuple[int, int]) -> str:
    backbone, method, task = record.backbone, record.method, record.task
    checksum = f", SHA-256 `{backbone.checksum}`" if backbone.checksum else ""
    origin = f"\n\nIt was converted from another format ({record.origin})." if record.origin else ""
    return (
        f"# {repository.rpartition('/')[2]}\n\n"
        f"An adapter for a frozen model, made with zipeft: {count(sizes[0])} parameters, {size(sizes[1])}.\n\n"
        f"- method: `{method.name}`. {_summary(registry.methods, method.name)}\n"
        f"- model: `{backbone.checkpoint}` (backbone `{backbone.name}`{checksum}), and no other weights\n"
        f"- task: `{task.name}`, data set `{task.dataset}`. {_summary(registry.tasks, task.name)}{origin}"
    )


def _training(record: AdapterRecord, result: Result | None) -> str:
    name, settings = record.method.name, record.method.settings
    converted = bool(record.origin)
    rows = [(f"{name}.{key}", value) for key, value in settings.items() if not (converted and key in TRAINING)]
    if result:
        sizes = result.task.sizes
        rows += result.protocol.items()
        rows += [("seed", result.seed), ("training examples", sizes.train), ("validation examples", sizes.validation)]
        rows += [("selected epoch", result.selected_epoch), ("data", result.task.source)]
    said = "Not by zipeft, and the format that it came in does not say how.\n\n" if converted else ""
    return f"## How it was trained\n\n{said}{_table(('setting', 'value'), rows)}"


def _scores(record: AdapterRecord, result: Result) -> str:
    """Say what the run scored on test data, and what the scores mean."""
    rows = [(name, score_text(name, value)) for name, value in result.test.items()]
    meaning = (inspect.getdoc(type(objective_of(record))) or "").replace("``", "`")
    return (
        f"## Scores\n\n{_table(('score', f'{result.task.sizes.test:,} test examples'), rows)}\n\n"
        f"Of one training, from one seed. `{result.task.metric}` chose the epoch, on validation data; the test data "
        "were used once, after that. Scores are in percent, except losses and perplexities, where lower is better.\n\n"
        f"What was learnt and how it is scored: {meaning}"
    )


def _loading(repository: str, record: AdapterRecord) -> str:
    answers = registry.backbones.get(record.backbone.name).modality == "instruction"
    use = 'zipeft generate adapter "What is a prompt?"' if answers else "zipeft evaluate adapter"
    return (
        "## How to load it\n\n"
        f"```bash\nzipeft pull {repository} --out adapter\n{use}\n```\n\n"
        "```python\n"
        "from pathlib import Path\n\n"
        "from zipeft import load_adapter\n\n"
        'learner, record = load_adapter(Path("adapter"))  # the frozen model, what was learnt, and its head\n'
        "```\n\n"
        "Where the model's weights lie in a folder, name it: "
        f"`--backbone {record.backbone.name} --checkpoint PATH`."
    )


def _summary(plugins: registry.Registry[Any], name: str) -> str:
    return (inspect.getdoc(plugins.get(name)) or "").partition("\n")[0]


def _sizes(folder: Path) -> tuple[int, int]:
    """Return how many parameters an adapter has, and the bytes of their file."""
    return sum(tensor.numel() for tensor in read_tensors(folder).values()), (Path(folder) / TENSORS).stat().st_size


def _table(headers: tuple[str, str], rows: Iterable[tuple[str, Any]]) -> str:
    from tabulate import tabulate

    return tabulate(
        [(f"`{name}`", value) for name, value in rows], headers=headers, tablefmt="github", disable_numparse=True
    )
