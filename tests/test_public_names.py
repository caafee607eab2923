"""The public names: each is there, says what it is for, and is imported when it is used."""

from __future__ import annotations

import inspect
import pydoc
import re
import subprocess
import sys
import textwrap

import pytest

import zipeft

CALLABLES = [name for name in zipeft.__all__ if callable(getattr(zipeft, name))]


def test_what_others_import_is_there():
    assert {
        *("attach", "detach", "ZeroGatedPrompt", "Splice", "load_adapter", "registry", "override", "UserError"),
        *("Backbone", "ImageBackbone", "TextBackbone", "LanguageBackbone", "ImageTextBackbone", "Weights"),
        *("Method", "Task", "Preset", "Data", "Split", "Window", "Objective", "Classification", "Range", "Choice"),
    } <= set(zipeft.__all__)


@pytest.mark.parametrize("name", zipeft.__all__)
def test_a_public_name_is_what_its_module_defines(name):
    value = getattr(zipeft, name)
    namespace: dict[str, object] = {}
    exec(f"from zipeft import {name}", namespace)
    assert namespace[name] is value
    assert name in dir(zipeft)
    home = getattr(value, "__module__", "zipeft")
    assert not home.startswith("zipeft.") or hasattr(sys.modules[home], name)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'zipeft' has no attribute 'atach'"):
        _ = zipeft.atach
    assert not hasattr(zipeft, "__wrapped__")


@pytest.mark.parametrize("name", CALLABLES)
def test_help_says_what_a_public_name_does(name):
    value = getattr(zipeft, name)
    doc = inspect.getdoc(value) or ""
    assert len(doc.split()) >= 5, f"{name} has no docstring"
    assert not doc.startswith(f"{name}("), f"{name} has the docstring that dataclass writes"
    assert doc.partition("\n")[0][0].isupper()
    assert doc.partition("\n")[0] in pydoc.plain(pydoc.render_doc(value))


FUNCTIONS = [name for name in CALLABLES if inspect.isfunction(getattr(zipeft, name))]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_docstring_of_a_function_names_its_arguments_and_its_errors(name):
    function = getattr(zipeft, name)
    doc = inspect.getdoc(function)
    arguments = [argument for argument in inspect.signature(function).parameters if argument != "model"]
    assert not [argument for argument in arguments if not re.search(rf"\b{argument}s?\b", doc)]
    raised = set(re.findall(r"raise (\w+Error)\(", inspect.getsource(function)))
    assert not [error for error in raised if error not in doc]


MEMBERS = [
    (name, member)
    for name in CALLABLES
    if inspect.isclass(getattr(zipeft, name))
    and issubclass(
        getattr(zipeft, name), zipeft.Backbone | zipeft.Splice | zipeft.Task | zipeft.Method | zipeft.Objective
    )
    for member, value in vars(getattr(zipeft, name)).items()
    if inspect.isfunction(inspect.unwrap(getattr(value, "__func__", value))) and not member.startswith("_")
]


@pytest.mark.parametrize(("name", "member"), MEMBERS, ids=[".".join(pair) for pair in MEMBERS])
def test_every_method_of_a_contract_says_what_it_returns_or_does(name, member):
    """``getdoc`` finds what is inherited: a subclass says again only what differs."""
    assert len((inspect.getdoc(getattr(getattr(zipeft, name), member)) or "").split()) >= 3


def test_tensors_of_the_contracts_have_shapes():
    """Of a tensor that a plug-in returns the docstring gives the dimensions, "(batch, width)" say, or "a scalar"."""
    without, seen = [], 0
    for name, member in MEMBERS:
        function = getattr(getattr(zipeft, name), member)
        function = inspect.unwrap(getattr(function, "__func__", function))
        if re.fullmatch(r"Tensor|tuple\[Tensor, Tensor\]", inspect.get_annotations(function).get("return", "")):
            seen += 1
            if not re.search(r"\((\.\.\.|[a-z_]+)(, [a-z0-9_ -]+)+\)|scalar", inspect.getdoc(function) or ""):
                without.append(f"{name}.{member}: {inspect.getdoc(function)}")
    assert seen >= 8
    assert not without


def test_import_zipeft_imports_no_other_library(tmp_path):
    program = """
        import sys
        before = set(sys.modules)
        import zipeft
        dir(zipeft)
        print(sorted({name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stdout == "['zipeft']\n"
