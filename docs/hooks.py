"""A hook of mkdocs: documents outside docs/ become pages, and links that leave docs/ stay links.

A link of a document is relative to its own file, as everywhere in the tree. On the site it leads to the page that the
file became, to a copy of the file (plots, pages for the browser, numbers), or to the file in the repository. A link to
a file that is not there is left as it is, so that a strict build refuses it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
COPIES = ("svg", "html", "csv", "tex", "json")
LINK = re.compile(r"(?P<before>\]\()(?P<target>[^)\s#:]+)(?P<after>(#[^)\s]*)?\))")


def taken() -> dict[str, str]:
    """Return the place on the site of every file outside docs/ that the site takes."""
    copies = [path for end in COPIES for path in (ROOT / "leaderboards").glob(f"*.{end}")]
    return {**PAGES, **{path.relative_to(ROOT).as_posix(): path.relative_to(ROOT).as_posix() for path in copies}}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, place in taken().items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    place = page.file.src_uri
    source = {there: here for here, there in PAGES.items()}.get(place, f"docs/{place}")

    def moved(link: re.Match[str]) -> str:
        target = _on_site(link["target"], source, place, config.repo_url or "")
        return f"{link['before']}{target}{link['after']}"

    return LINK.sub(moved, markdown)


def _on_site(target: str, source: str, place: str, repository: str) -> str:
    """Return what a link of a document is on the site."""
    path = (ROOT / source).parent.joinpath(target).resolve()
    if not path.exists() or not path.is_relative_to(ROOT):
        return target
    in_tree = path.relative_to(ROOT).as_posix()
    there = taken().get(in_tree) or (path.relative_to(DOCS).as_posix() if path.is_relative_to(DOCS) else None)
    if there is None:
        return f"{repository.rstrip('/')}/{'tree' if path.is_dir() else 'blob'}/main/{in_tree}"
    return os.path.relpath(there, os.path.dirname(place) or ".")
