"""The carrier bigbench: the texts, questions and pictures in it that several tasks take.

Its files ask, by a canary string, that their text stays out of pretraining corpora: nothing of it is ever written
into a result.
"""

from __future__ import annotations

import json
from pathlib import Path

from zipeft.errors import UserError
from zipeft.sources.folder import unreadable
from zipeft.sources.package_archive import PackageArchive, members_at
from zipeft.sources.seals import file_sha256

ARCHIVE = PackageArchive(
    name="bigbench",
    version="1.0.0",
    kind="sdist",
    sha256="1bb398a5512c6d798cdebe0dfa0ac03f67f6033fa6b39c6ef71df978c7cbc5c2",
    size=358_000_000,
    licence="Apache-2.0; SQuAD: CC BY-SA 4.0",
)
FOLDER = "bigbench/benchmark_tasks"

CIFAR_FILE = "cifar10_classification/base64/task.json"
CIFAR_SHA256 = "226298409875f5b93ccda063863181f88723d39bac7eeef28a79843ae0aace31"


def benchmark_files(*paths: str) -> list[Path]:
    """Return files of its benchmark tasks, such as "squad_shifts/nyt_v1.0.json", extracted once."""
    return members_at(ARCHIVE, [f"{FOLDER}/{path}" for path in paths])


def cifar10() -> tuple[list[str], list[str]]:
    """Return the 10,000 test pictures of CIFAR-10, sorted by class, as PNG in base64, and the class of each."""
    path = verified(benchmark_files(CIFAR_FILE)[0], CIFAR_SHA256)
    records = json.loads(path.read_text("utf-8"))["examples"]
    labels = [max(record["target_scores"], key=record["target_scores"].get) for record in records]
    return [record["input"] for record in records], labels


def verified(path: Path, sha256: str) -> Path:
    """Return the path of a file in the cache. Raises ``UserError`` if it is not what the verified archive had there."""
    try:
        found = file_sha256(path)
    except OSError as error:
        raise unreadable(error) from None
    if found != sha256:
        raise UserError(f"{path} is damaged (SHA-256 {found}, not {sha256}): delete it, and it is made again")
    return path
