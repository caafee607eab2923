"""The carrier bigbench: the texts, questions and pictures in it that several tasks take.

Its files ask, by a canary string, that their text stays out of pretraining corpora: nothing of it is ever written
into a result.
"""

from __future__ import annotations

from pathlib import Path

from zipeft.sources.package_archive import PackageArchive, members_at

ARCHIVE = PackageArchive(
    name="bigbench",
    version="1.0.0",
    kind="sdist",
    sha256="1bb398a5512c6d798cdebe0dfa0ac03f67f6033fa6b39c6ef71df978c7cbc5c2",
    size=358_000_000,
    licence="Apache-2.0; SQuAD: CC BY-SA 4.0",
)
FOLDER = "bigbench/benchmark_tasks"


def benchmark_files(*paths: str) -> list[Path]:
    """Return files of its benchmark tasks, such as "squad_shifts/nyt_v1.0.json", extracted once."""
    return members_at(ARCHIVE, [f"{FOLDER}/{path}" for path in paths])
