"""The search: what is drawn from a space, that it is the same everywhere, and what is chosen."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.toys import TOYS
from zipeft import registry
from zipeft.api.protocol import TrainingProtocol
from zipeft.api.search import Choice, Range, as_record, best, draw
from zipeft.experiments.comparison import Contender
from zipeft.objectives.default import default_objective

SPACE = {"rate": Range(1e-4, 1e-1), "length": Choice((1, 2, 4)), "share": Range(0.0, 2.0, log=False)}
METHODS = [name for name in registry.methods.names() if registry.methods.get(name).space]


@given(count=st.integers(0, 40), seed=st.integers(0, 2**31))
def test_drawn_settings_lie_in_their_space(count, seed):
    drawn = draw(SPACE, count, seed)
    assert len(drawn) == count
    for settings in drawn:
        assert settings.keys() == SPACE.keys()
        assert 1e-4 <= settings["rate"] <= 1e-1
        assert settings["length"] in (1, 2, 4)
        assert 0 <= settings["share"] <= 2


def test_the_same_seed_draws_the_same_and_fewer_are_the_first_of_more():
    assert draw(SPACE, 8, 3) == draw(SPACE, 8, 3) != draw(SPACE, 8, 4)
    assert draw(SPACE, 8, 3)[:5] == draw(SPACE, 5, 3)
    assert draw(dict(reversed(SPACE.items())), 8, 3) == draw(SPACE, 8, 3)


@pytest.mark.parametrize("count", [2, 4, 8])
def test_each_setting_alone_is_spread_over_equal_parts_of_its_range(count):
    rates = [settings["rate"] for settings in draw(SPACE, count, 1000)]
    parts = [math.log(rate / 1e-4) / math.log(1e3) for rate in rates]
    assert sorted(int(count * part) for part in parts) == list(range(count))


def test_an_empty_space_has_nothing_to_draw():
    assert draw({}, 4, 0) == draw(SPACE, 0, 0) == []


def test_ends_of_a_range_and_all_of_a_choice_are_reached():
    assert (Range(1e-3, 1.0).at(0.0), Range(1e-3, 1.0).at(1.0)) == (1e-3, 1.0)
    assert Range(2.0, 4.0, log=False).at(0.5) == 3.0
    assert Range(0.1234567, 1.0).at(0.0) == 0.123
    assert [Choice("ab").at(part) for part in (0.0, 0.49, 0.5, 0.999, 1.0)] == list("aabbb")


def test_the_best_validation_score_is_chosen_and_the_earlier_of_ties():
    assert best([0.1, 0.7, 0.7, 0.3]) == 1
    assert best([None, 0.0, None]) == 1
    assert best([None, None]) is best([]) is None


@pytest.mark.parametrize("name", registry.methods.names())
def test_what_trains_publishes_a_space_and_what_does_not_has_none(name):
    method = registry.methods.get(name)
    toy = next(backbone for backbone, _ in TOYS.values() if backbone.modality in method.modalities)()
    model = toy.build().requires_grad_(False)
    default_objective(toy).prepare(toy, model, ("red", "green"))
    method().apply(toy, model)
    trains = any(parameter.requires_grad for parameter in model.parameters())
    learns = trains or method().sample_size() > 0  # Tip-Adapter keeps training images, and trains nothing
    assert bool(method.space) == (learns or "head_learning_rate" in method.space)
    assert learns or method.space.keys() <= {"head_learning_rate"}
    assert trains or "learning_rate" not in method.space


SPACES = [
    pytest.param(name, space, id=f"{task} {preset} {name}")
    for task in registry.tasks.names()
    for preset, chosen in registry.tasks.get(task).presets.items()
    for name, space in chosen.spaces.items()
]


@pytest.mark.parametrize(("name", "space"), SPACES)
def test_spaces_of_presets_are_of_settings_and_no_range_is_wider_than_those_of_methods(name, space):
    method = registry.methods.get(name)
    assert space.keys() <= method.space.keys()
    for setting, dimension in space.items():
        own = method.space[setting]
        assert abs(math.log10(dimension.high / dimension.low) - math.log10(own.high / own.low)) < 0.1


@pytest.mark.parametrize("name", METHODS)
def test_every_method_publishes_a_space_of_its_own_settings(name):
    method = registry.methods.get(name)
    fields = {field: getattr(method(), field) for field in method.__dataclass_fields__}
    for setting, dimension in method.space.items():
        assert setting in fields
        if isinstance(dimension, Range):
            assert dimension.low <= fields[setting] <= dimension.high
        else:
            assert fields[setting] in dimension.values
    assert as_record(method.space).keys() == method.space.keys()


def test_what_methods_share_is_searched_alike_and_no_range_is_wider_than_another():
    spaces = [registry.methods.get(name).space for name in METHODS]
    assert len({space["head_learning_rate"] for space in spaces if "head_learning_rate" in space}) == 1
    decades = [math.log10(s["learning_rate"].high / s["learning_rate"].low) for s in spaces if "learning_rate" in s]
    assert max(decades) - min(decades) < 0.1


@pytest.mark.parametrize("name", METHODS)
def test_every_method_gets_the_same_number_of_trials(name):
    method = registry.methods.get(name)
    contender = Contender(name, method(), method.space)
    for trials in (0, 1, 5):
        candidates = contender.candidates(TrainingProtocol(trials=trials))
        assert len(candidates) == trials
        drawn = draw(method.space, trials, TrainingProtocol().search_seed)
        assert [candidate.searched() for candidate in candidates] == drawn
        assert {candidate.name for candidate in candidates} <= {name}
