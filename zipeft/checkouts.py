"""Checkouts that are installed with ``pip install -e``, and plug-ins written in them since."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from importlib.metadata import Distribution, distributions
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def project_with(group: str, name: str) -> Path | None:
    """Return the ``pyproject.toml`` that has an entry point, among those of the checkouts that are installed."""
    for checkout in filter(None, map(_checkout, distributions())):
        project = checkout / "pyproject.toml"
        with suppress(OSError, ValueError, KeyError, TypeError):  # a checkout that is gone, or a file half written
            if name in tomllib.loads(project.read_text("utf-8"))["project"]["entry-points"][group]:
                return project
    return None


def _checkout(installed: Distribution) -> Path | None:
    """Return the folder that a distribution was installed from with ``pip install -e``, as its metadata have it."""
    with suppress(ValueError, KeyError, TypeError):
        origin = json.loads(installed.read_text("direct_url.json") or "{}")
        if origin["dir_info"]["editable"]:
            return Path(url2pathname(urlsplit(origin["url"]).path))
    return None
