"""What documents show is so: their commands are taken, their Python runs, their tables and links are up to date.

A shell block is held to one rule of three: the readme environment of tox runs it, if its name stands before it; or each
of its commands is taken by the command's own parser; or ``<!-- needs: ... -->`` before it says what it needs. A Python
block runs, unless ``<!-- needs: ... -->`` or ``<!-- sketch -->`` stands before it.
"""

from __future__ import annotations

import configparser
import importlib
import pkgutil
import re
import shlex
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import fill_documents
import pytest

from support import ROOT

DOCUMENTS = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
FENCE = re.compile(
    r"(?:^ *<!-- *(?P<mark>[^\n]+?) *-->\n+)?^(?P<indent> *)```(?P<language>\w+)\n(?P<text>.*?)\n(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
LINK = re.compile(r"\]\((?P<target>[^)\s#:]+)(?:#[^)\s]*)?\)")

FILE = re.compile(r"`((?:zipeft|backbones|tasks|tests|docs|examples|leaderboards)/[\w/.-]*)`")


class Block(NamedTuple):
    document: Path
    mark: str
    language: str
    text: str

    @property
    def needs(self) -> bool:
        return self.mark.startswith("needs: ")


def blocks(*languages: str) -> list:
    found = [
        Block(document, block["mark"] or "", block["language"], textwrap.dedent(block["indent"] + block["text"]))
        for document in DOCUMENTS
        for block in FENCE.finditer(document.read_text(encoding="utf-8"))
    ]
    chosen = [block for block in found if block.language in languages]
    return [pytest.param(block, id=f"{block.document.stem}-{number}") for number, block in enumerate(chosen)]


def tox() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "tox.ini", encoding="utf-8")
    return parser


def commands(text: str) -> list[list[str]]:
    """Return the words of every command, without comments and without what a shell does with the output."""
    split = (shlex.split(line, comments=True) for line in text.replace("\\\n", " ").splitlines())
    return [words[: words.index(">")] if ">" in words else words for words in split if words]


def check(words: list[str]) -> None:
    """Raise what the command's parser raises, and ``LookupError`` for a command that nothing here can check."""
    if words[0] == "zipeft":
        check_zipeft(words[1:])
    elif words[:2] == ["python", "-m"] and words[2].startswith("zipeft."):
        check_zipeft([words[2].removeprefix("zipeft."), *words[3:]])
    elif words[:2] == ["tox", "-e"]:
        if f"testenv:{words[2]}" not in tox() and not re.fullmatch(r"py3\d\d", words[2]):
            raise LookupError(f"tox has no environment {words[2]}")
    elif words[0] == "python" and (ROOT / words[1]).is_file():
        compile((ROOT / words[1]).read_text(encoding="utf-8"), words[1], "exec")
    else:
        raise LookupError(f"nothing here checks {shlex.join(words)}: say before the block what it <!-- needs: ... -->")


def check_zipeft(words: list[str]) -> None:
    from zipeft.commands import COMMANDS

    name, *arguments = words
    if name not in COMMANDS:
        raise LookupError(f"zipeft has no command {name}")
    if arguments == ["--help"]:
        return
    module = importlib.import_module(f"zipeft.commands.{COMMANDS[name].module}")
    if name == "run":
        from zipeft.experiments.plan import make_plan

        assert make_plan(module._parse(arguments))
    elif hasattr(module, "_parse"):
        module._parse(arguments)
    else:
        module._parser().parse_args(arguments)


@pytest.mark.parametrize("block", blocks("bash", "sh", "shell", "console"))
def test_shell_block_is_run_or_parsed_or_says_what_it_needs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweeps = (ROOT / "docs/sweeps.md").read_text(encoding="utf-8")
    (tmp_path / "sweep.toml").write_text(re.search(r"```toml\n(.*?)```", sweeps, re.DOTALL)[1])
    if block.mark == "types":
        assert "types" in shlex.split((ROOT / ".ci/run").read_text(encoding="utf-8"))
        return
    if block.mark in ("main job", "tests"):
        assert block.document.name == "README.md"
        assert block.mark in shlex.split(tox()["testenv:readme"]["commands"])
        return
    for words in commands(block.text):
        if not block.needs or words[0] == "zipeft":
            check(words)


@pytest.mark.parametrize(
    "command",
    [
        "zipeft rnu",
        "zipeft ls everything",
        "python -m zipeft.run --backbone vit --task fgvc --trails 4",
        "python -m zipeft.run --backbone vit --task fgvc --method zero_gatd",
        "python -m zipeft.run --backbone vit --task fgvc --set zero_gated.lenth=50",
        "python docs/nowhere.py",
        "tox -e nowhere",
        "ls",
    ],
)
def test_a_wrong_command_is_found(command):
    from zipeft.errors import UserError

    with pytest.raises((UserError, LookupError)):
        check(*commands(f"{command}  # a comment"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_stand_in_fences(document):
    """An indented block has no language, so no rule holds it to anything."""
    outside = FENCE.sub("", document.read_text(encoding="utf-8"))
    assert not re.search(r"^(?: {4}|\t)\$? *(?:zipeft|python|pip|pytest|tox|mkdocs|torchrun) ", outside, re.MULTILINE)


@pytest.mark.parametrize("block", blocks("python"))
def test_python_block_runs(block):
    source = compile(block.text, str(block.document), "exec", dont_inherit=True)
    if not block.needs and block.mark != "sketch":
        module = type(sys)("document")  # dataclasses look their module up
        sys.modules["document"] = module
        try:
            exec(source, vars(module))
        finally:
            del sys.modules["document"]


def test_the_method_of_the_documents_trains_the_norms_of_a_model_in_float32():
    import timm
    import torch

    block, _ = (param.values[0] for param in blocks("python") if param.values[0].document.stem == "method")
    sys.modules["document"] = module = type(sys)("document")
    try:
        exec(block.text, vars(module))
        model = timm.create_model("vit_tiny_patch16_224", depth=2).requires_grad_(False).bfloat16()
        module.NormTuning().apply(None, model)
    finally:
        del sys.modules["document"]
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, parameter in model.named_parameters() if parameter.dtype == torch.float32}
    assert len(trained) == 2 * (2 * 2 + 1)
    assert all("norm" in name for name in trained)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_and_names_of_files_lead_somewhere(document):
    text = document.read_text(encoding="utf-8")
    targets = {link["target"] for link in LINK.finditer(text)}
    assert {target for target in targets if not (document.parent / target).exists()} == set()
    assert {name for name in FILE.findall(text) if not (ROOT / name).exists()} == set()


def test_generated_parts_are_up_to_date():
    stale = [
        str(document.relative_to(ROOT))
        for document in fill_documents.documents()
        if (text := document.read_text(encoding="utf-8")) != fill_documents.filled(text, document)
    ]
    assert not stale, "run python tests/fill_documents.py"


def test_no_table_of_results_is_typed_by_hand():
    for document in fill_documents.documents():
        by_hand = fill_documents.PART.sub("", document.read_text(encoding="utf-8"))
        assert not re.search(r"^\|[^\n]*\| *rank *\|", by_hand, re.MULTILINE), document


def test_a_changed_cell_and_an_unknown_part_are_found():
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    assert fill_documents.filled(text.replace("| zero_gated ", "| zero_gates "), readme) == text
    with pytest.raises(ValueError, match="no table 'nowhere'"):
        fill_documents.filled("<!-- table: nowhere -->\n<!-- end -->", readme)
    with pytest.raises(ValueError, match="no table under"):
        fill_documents.filled("<!-- table: vit-fgvc, Nowhere -->\n<!-- end -->", readme)


def test_every_board_has_a_page():
    pages = {path.stem for path in (ROOT / "docs" / "results").glob("*.md")} - {"index"}
    assert pages == {path.stem for path in (ROOT / "leaderboards").glob("*.md")}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["language-models", "vision-language"])
def test_the_profile_that_is_shown_is_what_the_command_prints(name, capsys):
    from zipeft.commands import profile

    text = (ROOT / f"docs/{name}.md").read_text(encoding="utf-8")
    ((_, *arguments),) = [words[1:] for words in commands(text[text.index("zipeft profile --") :].partition("```")[0])]
    assert profile.main([*arguments, "--format", "github"]) == 0
    shown = text.partition("<!-- output -->")[2].strip().partition("\n\n")[0]

    def cells(table: str) -> list[list[str]]:
        return [[cell.strip(" :-") for cell in line.split("|")] for line in table.splitlines()]

    assert cells(shown) == cells(capsys.readouterr().out.strip())


def test_the_api_page_has_every_public_name_and_none_that_is_not_there():
    import zipeft

    names = re.findall(r"^::: (\S+)$", (ROOT / "docs/api.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {f"zipeft.{name}" for name in zipeft.__all__} <= set(names)
    for name in names:
        pkgutil.resolve_name(name.replace(".", ":", 1) if name.count(".") == 1 else name)


def test_the_extras_are_listed():
    from importlib.metadata import metadata

    extras = set(metadata("zipeft").get_all("Provides-Extra")) - {"test", "types"}  # for contributors
    listed = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/quickstart.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(listed) == extras


def test_version_and_addresses_agree():
    import zipeft

    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("CITATION.cff", "CHANGELOG.md", "mkdocs.yml")}
    assert f"\nversion: {zipeft.__version__}\n" in texts["CITATION.cff"]
    assert f"\n## {zipeft.__version__}" in texts["CHANGELOG.md"]
    address = re.search(r'^Repository = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)[
        1
    ]
    assert f"\nrepo_url: {address} " in texts["mkdocs.yml"]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 160
