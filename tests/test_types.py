"""Type checking leaves no module out; what a line lets pass is said with its kind and the reason."""

from __future__ import annotations

import re

import pytest

from support import ROOT
from support.modules import modules

IGNORED = re.compile(r"# type: ignore(?P<kind>\[[a-z, -]+\])?(?P<reason>  # \S.+)?")


def test_no_module_is_left_out_and_no_check_switched_off_for_some():
    tomllib = pytest.importorskip("tomllib")
    mypy = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    assert mypy["strict"]
    assert not {"overrides", "exclude", "ignore_errors", "disable_error_code"} & mypy.keys()
    left_out = re.compile(r"^# *(mypy|type): *(?!ignore\[)", re.MULTILINE)
    assert not [name for name, path in modules().items() if left_out.search(path.read_text(encoding="utf-8"))]


def test_whatever_type_checking_lets_pass_has_its_kind_and_a_reason():
    found = [
        f"{name}: {match[0]}"
        for name, path in modules().items()
        for match in IGNORED.finditer(path.read_text(encoding="utf-8"))
        if not (match["kind"] and match["reason"])
    ]
    assert not found
