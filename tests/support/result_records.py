"""Records of every kind, their content as files have it, and what is wrong with it, for tests of results."""

from __future__ import annotations

import json

import pytest
from hypothesis import strategies as st

from support import ROOT
from support.result_factory import make_failure, make_result, make_trial
from zipeft.errors import UserError
from zipeft.results import from_json

OLD_STORE = ROOT / "tests" / "data" / "schema-1"
OLD_FILE = OLD_STORE / "vit-fgvc" / "icons" / "linear-seed0-c520999984949398.json"

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
SETTINGS = st.dictionaries(st.text(), JSON_VALUES, max_size=4)

SPACE = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
RECORDS = {
    "run": make_result(space=SPACE),
    "trial": make_trial(),
    "failure": make_failure(make_trial(index=1), details="Traceback"),
}


def content_of(record):
    """Return a record's content as a file gives it back."""
    return json.loads(json.dumps(record.to_json()))


def error_of(data) -> str:
    with pytest.raises(UserError) as caught:
        from_json(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def paths_of(value, path=()):
    """Yield the path of every field below a JSON object, free-form settings left out."""
    free = ("settings", "space", "protocol", "test", "validation", "versions")
    for key, item in value.items():
        yield (*path, key)
        if isinstance(item, dict) and key not in free:
            yield from paths_of(item, (*path, key))


def parent_of(data, path):
    for key in path[:-1]:
        data = data[key]
    return data


def leaves_of(value, path=()):
    """Yield the path of every value in JSON that holds no other."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from leaves_of(item, (*path, key))
    if not isinstance(value, dict | list) or not value:
        yield path


def old_content() -> dict:
    return json.loads(OLD_FILE.read_text())
