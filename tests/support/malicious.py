"""A pickle that runs code when it is loaded, as what is downloaded may."""

from __future__ import annotations

from pathlib import Path


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)
