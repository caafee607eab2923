"""Text from the command line becomes typed settings, and settings become JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zipeft.api.settings import _say, as_json, describe, from_json, override, parse_assignments, setting
from zipeft.errors import UserError

if TYPE_CHECKING:
    from decimal import Decimal


@dataclass(frozen=True)
class Base:
    length: int = 10


@dataclass(frozen=True)
class Settings(Base):
    rate: float = 1e-3
    per_head: bool = True
    squash: Literal["tanh", "none"] = "tanh"
    rank: Literal[1, 2] = 1
    name: str = "x"
    folder: Path = Path("data")
    data_dir: Path | None = None
    layers: int | None = None
    old_style: Optional[float] = None  # noqa: UP045
    size: int | float = 1
    targets: tuple[str, ...] = ("qkv",)
    sizes: tuple[int, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    derived: int = field(default=1, init=False)
    constant: ClassVar[int] = 3

    def __post_init__(self):
        if self.length < 0:
            raise ValueError("length must not be negative")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("length", "50", 50),
        ("rate", "3e-4", 3e-4),
        ("rate", "1", 1.0),
        ("per_head", "false", False),
        ("per_head", "Yes", True),
        ("squash", "none", "none"),
        ("rank", "2", 2),
        ("name", "50", "50"),
        ("name", "", ""),
        ("folder", "a/b", Path("a/b")),
        ("folder", "~", Path.home()),
        ("data_dir", "a", Path("a")),
        ("data_dir", "none", None),
        ("layers", "None", None),
        ("layers", "4", 4),
        ("old_style", "0.5", 0.5),
        ("size", "2", 2),
        ("size", "2.5", 2.5),
        ("targets", "q, v", ("q", "v")),
        ("targets", "", ()),
        ("sizes", "1,2,3", (1, 2, 3)),
    ],
)
def test_override_parses_by_annotation(name, text, value):
    parsed = getattr(override(Settings, {name: text}), name)
    assert parsed == value
    assert type(parsed) is type(value)


@given(st.integers(min_value=0), st.floats(allow_nan=False, allow_infinity=False), st.booleans())
def test_what_is_printed_is_parsed_again(length, rate, per_head):
    settings = Settings(length=length, rate=rate, per_head=per_head)
    shown = {"length": str(length), "rate": repr(rate), "per_head": str(per_head)}
    assert override(Settings, shown) == settings


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("length", "ten", "an integer"),
        ("length", "1.5", "an integer"),
        ("length", "", "an integer"),
        ("rate", "fast", "a finite number"),
        ("rate", "nan", "a finite number"),
        ("rate", "-inf", "a finite number"),
        ("per_head", "maybe", "true or false"),
        ("squash", "tan", "one of tanh, none; did you mean 'tanh'?"),
        ("rank", "3", "one of 1, 2"),
        ("folder", "", "a path"),
        ("layers", "few", "an integer or none"),
        ("size", "big", "an integer or a finite number"),
        ("sizes", "1,x", "an integer"),
        ("extra", "a", "settable as text: its type is Mapping"),
    ],
)
def test_bad_value_says_what_is_expected(name, text, expected):
    with pytest.raises(UserError) as raised:
        override(Settings, {name: text}, "zero_gated")
    assert str(raised.value).startswith(f"zero_gated.{name}: {text!r} is not {expected}")
    assert "\n" not in str(raised.value)


def test_unknown_setting_suggests_and_lists():
    with pytest.raises(UserError, match=r"Settings has no setting 'lenght'; did you mean 'length'\? \(.*length, rate,"):
        override(Settings, {"lenght": "1"})
    for hidden in ("derived", "constant"):
        with pytest.raises(UserError, match=f"has no setting '{hidden}'"):
            override(Settings, {hidden: "1"})


def test_class_without_settings_says_so():
    with pytest.raises(UserError, match=r"bare has no setting 'x' \(it has none\)"):
        override(dataclass(type("Bare", (), {})), {"x": "1"}, "bare")


def test_instance_keeps_its_other_settings():
    changed = override(Settings(length=3, rate=0.5), {"length": "4"})
    assert (changed.length, changed.rate) == (4, 0.5)
    assert override(changed, {}) == changed


def test_refusal_of_the_class_is_a_user_error():
    with pytest.raises(UserError, match=r"^zero_gated: length must not be negative$"):
        override(Settings, {"length": "-1"}, "zero_gated")


def test_type_unknown_at_run_time_is_a_user_error():
    @dataclass
    class Careless:
        amount: Decimal = 0

    with pytest.raises(UserError, match=r"careless: .*'Decimal' is not defined"):
        override(Careless, {"amount": "1"}, "careless")


def test_as_json_is_what_json_writes():
    settings = Settings(data_dir=Path("a") / "b", sizes=(1, 2), extra={"base": Base(), "paths": [Path("c")]})
    written = as_json(settings)
    assert json.loads(json.dumps(written)) == written
    assert written["data_dir"] == str(Path("a") / "b")
    assert written["sizes"] == [1, 2]
    assert written["layers"] is None
    assert written["extra"] == {"base": {"length": 10}, "paths": ["c"]}
    assert "constant" not in written


def test_as_json_refuses_what_json_cannot_hold():
    with pytest.raises(TypeError, match="no form in JSON"):
        as_json(Settings(extra={"set": {1}}))


def test_assignments_are_grouped_by_name():
    texts = ["zero_gated.length=50", "lora.rank = 4", "zero_gated.squash=none", "a.b.c=x=y"]
    assert parse_assignments(texts) == {
        "zero_gated": {"length": "50", "squash": "none"},
        "lora": {"rank": "4"},
        "a.b": {"c": "x=y"},
    }
    assert parse_assignments([]) == {}


@pytest.mark.parametrize("text", ["zero_gated.length", "length=50", "=", ".length=3", "zero_gated.=3", ""])
def test_malformed_assignment_is_named(text):
    with pytest.raises(UserError, match=r"is not of the form NAME\.SETTING=VALUE") as raised:
        parse_assignments([text])
    assert repr(text) in str(raised.value)


def test_setting_twice_is_refused():
    with pytest.raises(UserError, match=r"zero_gated\.length is set twice"):
        parse_assignments(["zero_gated.length=1", "zero_gated.length=2"])


def test_describe_shows_types_and_defaults():
    described = describe(Settings)
    assert "length: int = 10" in described
    assert "data_dir: Path | None = None" in described
    assert "folder: Path = data" in described
    assert not any(line.startswith(("derived", "constant")) for line in described)


def test_what_was_recorded_comes_back_as_it_was():
    @dataclass(frozen=True)
    class Recorded:
        folder: Path | None = None
        names: tuple[str, ...] = ()
        count: int = 1

    for instance in (Recorded(), Recorded(Path("a/b"), ("x", "y"), 3)):
        assert from_json(Recorded, json.loads(json.dumps(as_json(instance)))) == instance


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cuont": 3}, "no setting 'cuont'"),
        ({}, "name is missing"),
        ({"count": 1.5}, "count: 1.5 is not an integer"),
        ({"count": True}, "count: True is not an integer"),
        ({"count": None}, "count: None is not an integer"),
        ({"rate": float("inf")}, "rate: inf is not a finite number"),
        ({"rate": 10**400}, "is not a finite number"),
        ({"rate": "1"}, "rate: '1' is not a finite number"),
        ({"name": []}, r"name: \[\] is not text"),
        ({"name": "a\0b"}, "is not text"),
        ({"folder": 5}, "folder: 5 is not a path or none"),
        ({"folder": "a\0b"}, "is not a path or none"),
        ({"folder": ""}, "folder: '' is not a path or none"),
        ({"gate": "x"}, "gate: 'x' is not one of 'head', 'layer'"),
        ({"gate": []}, r"gate: \[\] is not one of"),
        ({"sizes": "1"}, "sizes: '1' is not a list"),
        ({"sizes": [1, "2"]}, r"sizes: \[1, '2'\] is not an integer"),
    ],
)
def test_what_was_recorded_is_taken_by_its_type(values, message):
    @dataclass(frozen=True)
    class Recorded:
        name: str
        folder: Path | None = None
        count: int = 1
        rate: float = 1.0
        gate: Literal["head", "layer"] = "head"
        sizes: tuple[int, ...] = ()
        flag: bool = False

    right = {"name": "x", "count": -3, "rate": 2, "gate": "layer", "sizes": [1, 2], "flag": True, "folder": None}
    assert as_json(from_json(Recorded, right)) == right
    with pytest.raises(ValueError, match=message):
        from_json(Recorded, values if values == {} else {"name": "x", **values})


# Settings and values that have a new name.


@dataclass(frozen=True)
class Renamed:
    gate_activation: Literal["tanh", "none"] = setting("tanh", recorded_as="squash")
    resize: Literal["stretch", "crop"] = setting("stretch", recorded_values={"stretch": "squash"})


def test_old_names_are_taken_and_the_new_ones_said_once(capsys):
    _say.cache_clear()
    for _ in range(2):
        changed = override(Renamed, {"squash": "none", "resize": "squash"}, "part")
        assert changed == Renamed("none", "stretch")
    assert capsys.readouterr().err.splitlines() == [
        "zipeft: part.squash is now called part.gate_activation",
        "zipeft: part.resize=squash is now called part.resize=stretch",
    ]
    assert override(Renamed, {"gate_activation": "none", "resize": "crop"}) == Renamed("none", "crop")
    assert capsys.readouterr().err == ""
    with pytest.raises(UserError, match=r"part\.gate_activation is set twice, once as squash; keep one"):
        override(Renamed, {"gate_activation": "none", "squash": "tanh"}, "part")
    with pytest.raises(UserError, match=r"did you mean 'gate_activation'\? \(its settings are gate_"):
        override(Renamed, {"gate_activatio": "none"}, "part")


def test_records_keep_the_old_names():
    for instance in (Renamed(), Renamed("none", "crop")):
        recorded = as_json(instance)
        assert list(recorded) == ["squash", "resize"]
        assert from_json(Renamed, recorded) == instance
    assert as_json(Renamed()) == {"squash": "tanh", "resize": "squash"}
    with pytest.raises(ValueError, match="no setting 'gate_activation'"):
        from_json(Renamed, {"gate_activation": "tanh"})
    with pytest.raises(ValueError, match="squash: 'relu' is not one of 'tanh', 'none'"):
        from_json(Renamed, {"squash": "relu"})


@pytest.mark.parametrize("text", ["a\0b", "\udcff"])
def test_a_text_that_no_file_holds_is_refused(text):
    with pytest.raises(UserError, match="is not text in UTF-8"):
        override(Settings, {"name": text})
