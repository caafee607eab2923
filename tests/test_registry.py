"""Plug-ins are found by name, imported on demand, and cannot harm one another."""

from __future__ import annotations

import json
import sys
import textwrap
from dataclasses import FrozenInstanceError, dataclass

import pytest

from zipeft import registry
from zipeft.api.backbone import Backbone
from zipeft.api.method import Method
from zipeft.errors import UserError
from zipeft.registry import Registry

GOOD = '''
from zipeft.api.method import Method

class Good(Method):
    """A method for tests.

    It does nothing.
    """
    def apply(self, backbone, model): ...

class Abstract(Method): ...

def function(): ...
'''


class Nothing(Method):
    """Nothing at all."""

    def apply(self, backbone, model): ...


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Return a function that installs a distribution of one module, and gives a registry that sees it."""

    def install(distribution, entry_points, module="", source=GOOD, path="site", kind="methods"):
        info = tmp_path / path / f"{distribution}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[zipeft.{kind}]\n" + "\n".join(entry_points))
        if module:
            (tmp_path / path / f"{module}.py").write_text(textwrap.dedent(source))
        monkeypatch.syspath_prepend(str(tmp_path / path))
        return Registry("method", Method)

    yield install
    for name in [name for name in sys.modules if name.startswith(("acme_", "zeta_"))]:
        del sys.modules[name]


def test_installed_plugin_is_found_and_imported_on_demand(site):
    methods = site("acme", ["good = acme_good:Good", "other = acme_other:Good"], "acme_good")
    assert {"good", "other"} <= set(methods.names())
    assert methods.names() == sorted(methods.names())
    assert "acme_good" not in sys.modules
    assert methods.get("good").__name__ == "Good"
    assert "acme_other" not in sys.modules


def test_listing_describes_a_plugin(site):
    listing = {row.name: row for row in site("acme", ["good = acme_good:Good"], "acme_good").listing()}
    row = listing["good"]
    assert (row.summary, row.origin, row.value, row.error) == ("A method for tests.", "acme 1.0", "acme_good:Good", "")
    with pytest.raises(FrozenInstanceError):
        row.name = "better"


def test_generated_docstring_is_no_summary():
    @dataclass(frozen=True)
    class Silent(Nothing):
        pass

    methods = Registry("method", Method)
    methods.register("silent", Silent)
    assert [row.summary for row in methods.listing() if row.name == "silent"] == [""]


def test_unknown_name_suggests_a_close_one(site):
    methods = site("acme", ["gooood = acme_good:Good"])
    with pytest.raises(UserError, match=r"unknown method 'goood'; did you mean 'gooood'\? \(zipeft ls lists all\)"):
        methods.get("goood")
    with pytest.raises(UserError, match=r"^unknown method 'xyzzy' \(zipeft ls lists all\)$"):
        methods.get("xyzzy")


def test_empty_group_says_how_to_install():
    nothing = Registry("flavour", Method)
    assert nothing.names() == []
    with pytest.raises(UserError, match="no flavours are installed"):
        nothing.get("vanilla")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def f(:", "SyntaxError"),
        ("raise RuntimeError('first\\nsecond')", "RuntimeError: first second"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("class Panic(BaseException): ...\nraise Panic('rust')", "Panic: rust"),
        ("raise ValueError", "ValueError"),
        ("", "AttributeError: module 'acme_broken' has no attribute 'Broken'"),
    ],
)
def test_plugin_that_fails_to_import_is_named_and_isolated(site, source, reason):
    site("acme", ["broken = acme_broken:Broken"], "acme_broken", source)
    methods = site("zeta", ["good = acme_good:Good"], "acme_good", path="elsewhere")
    with pytest.raises(UserError) as raised:
        methods.get("broken")
    message = str(raised.value)
    assert message.startswith("method 'broken' of acme 1.0 (acme_broken:Broken) cannot be used: " + reason)
    assert "\n" not in message
    listing = {row.name: row for row in methods.listing()}
    assert listing["broken"].error.startswith(reason)
    assert listing["good"].error == ""
    assert methods.get("good").__name__ == "Good"


def test_keyboard_interrupt_is_not_swallowed(site):
    methods = site("acme", ["broken = acme_broken:Broken"], "acme_broken", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        methods.get("broken")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("acme_good", "it is a module, not a subclass of zipeft.api.method.Method"),
        ("acme_good:function", "it is a function, not a subclass of zipeft.api.method.Method"),
        ("pathlib:Path", "Path is not a subclass of zipeft.api.method.Method"),
        ("acme_good:Abstract", "Abstract does not define apply"),
        ("not a module!", "'not a module!' is not of the form module:Class"),
    ],
)
def test_plugin_that_is_no_concrete_subclass_is_refused(site, value, reason):
    methods = site("acme", [f"odd = {value}"], "acme_good")
    with pytest.raises(UserError) as raised:
        methods.get("odd")
    assert str(raised.value) == f"method 'odd' of acme 1.0 ({value}) cannot be used: {reason}"


@pytest.mark.parametrize("cls", [int, Method, print])
def test_register_refuses_what_is_no_concrete_subclass(cls):
    methods = Registry("method", Method)
    with pytest.raises(UserError, match="method 'odd' cannot be registered: "):
        methods.register("odd", cls)
    assert "odd" not in methods.names()


def test_class_variables_that_the_base_declares_are_required():
    members = dict.fromkeys(("build", "weights", "blocks", "width", "features"), lambda self, *args: None)
    careless = type("Careless", (Backbone,), members)
    with pytest.raises(UserError, match="Careless does not define lora_targets, modality"):
        Registry("backbone", Backbone).register("careless", careless)


def test_two_distributions_with_one_name_conflict_and_others_work(site):
    site("acme", ["good = acme_good:Good"], "acme_good")
    methods = site("zeta", ["good = zeta_good:Good", "fine = zeta_good:Good"], "zeta_good", path="elsewhere")
    with pytest.raises(UserError, match="given more than once") as raised:
        methods.get("good")
    assert "acme 1.0" in str(raised.value)
    assert "zeta 1.0" in str(raised.value)
    assert methods.get("fine").__module__ == "zeta_good"
    errors = {row.name: row.error for row in methods.listing()}
    assert errors["good"]
    assert not errors["fine"]


def test_distribution_that_is_twice_on_the_path_is_one(site):
    site("acme", ["good = acme_good:Good"], "acme_good")
    methods = site("acme", ["good = acme_good:Good"], "acme_good", path="elsewhere")
    assert methods.get("good").__name__ == "Good"


def test_register_and_unregister(site):
    methods = site("acme", ["good = acme_good:Good"], "acme_good")
    methods.register("nothing", Nothing)
    assert methods.get("nothing") is Nothing
    assert [row.origin for row in methods.listing() if row.name == "nothing"] == ["this process"]
    for taken, owner in (("nothing", "this process"), ("good", "acme 1.0")):
        with pytest.raises(UserError, match=f"method '{taken}' exists already, from {owner}"):
            methods.register(taken, Nothing)
    methods.unregister("nothing")
    assert "nothing" not in methods.names()
    with pytest.raises(UserError, match="was not registered"):
        methods.unregister("good")


BUILT_IN = [
    (plugins, name) for plugins in (registry.backbones, registry.tasks, registry.methods) for name in plugins.names()
]


@pytest.mark.parametrize(("plugins", "name"), BUILT_IN, ids=[f"{plugins.kind}-{name}" for plugins, name in BUILT_IN])
def test_every_installed_plugin_is_usable_and_described(plugins, name):
    row = next(row for row in plugins.listing() if row.name == name)
    assert row.error == ""
    assert row.summary
    assert issubclass(plugins.get(name), plugins.base)
    plugins.get(name)()  # every setting has a default


@pytest.mark.parametrize("name", registry.splices.names())
def test_every_installed_splice_is_usable_and_described(name):
    (row,) = registry.splices.listing(name)
    assert (row.name, row.error) == (name, "")
    assert row.summary
    assert issubclass(registry.splices.get(name), registry.splices.base)


def test_listing_takes_a_pattern(site):
    methods = site("acme", ["zero_a = acme_good:Good", "zero_b = acme_other:Good", "z = acme_good:Good"], "acme_good")
    assert [row.name for row in methods.listing("zero_[a-a]")] == ["zero_a"]
    assert "acme_other" not in sys.modules


def test_there_are_plugins_of_every_kind():
    assert {plugins.kind for plugins, _ in BUILT_IN} == {"backbone", "task", "method"}


def test_register_is_a_decorator_too(site):
    methods = site("acme", [])

    @methods.register("nothing")
    class Decorated(Nothing):
        """Nothing, decorated."""

    assert methods.get("nothing") is Decorated
    assert methods.register("other", Decorated) is Decorated
    with pytest.raises(UserError, match="cannot be registered"):
        methods.register("odd")(int)


@pytest.mark.parametrize("editable", [True, False])
def test_a_name_that_was_added_after_the_install_asks_for_another_install(site, tmp_path, editable):
    """The metadata of an editable install know the entry points that there were, not those that were written since."""
    checkout = tmp_path / "a checkout"
    checkout.mkdir()
    (checkout / "pyproject.toml").write_text('[project.entry-points."zipeft.methods"]\nnew = "acme_good:Good"\n')
    methods = site("acme", ["good = acme_good:Good"], "acme_good")
    origin = {"url": checkout.as_uri(), "dir_info": {"editable": editable}}
    (tmp_path / "site/acme-1.0.dist-info/direct_url.json").write_text(json.dumps(origin))
    with pytest.raises(UserError) as raised:
        methods.get("new")
    again = f"method 'new' was added to {checkout / 'pyproject.toml'}: install again: pip install -e '{checkout}'"
    assert str(raised.value) == (again if editable else "unknown method 'new' (zipeft ls lists all)")
    with pytest.raises(UserError, match="unknown method 'newer'"):
        methods.get("newer")
    (checkout / "pyproject.toml").write_text("half a line = ")
    with pytest.raises(UserError, match="unknown method 'new'"):
        methods.get("new")
