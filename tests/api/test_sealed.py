"""The test lock: test data are handed out once a run, after its choice, and cheats fail loudly."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import pickle
from dataclasses import dataclass

import pytest

from support import experiments
from support.experiments import run
from support.toys import ToyTask, ToyViT
from zipeft.api.data import Data, Split
from zipeft.api.method import Method
from zipeft.api.sealed import SealedSplit, TestKey, TestLocked, training
from zipeft.errors import UserError
from zipeft.experiments.experiment import Experiment
from zipeft.methods.linear import Linear
from zipeft.training.dataset import encode
from zipeft.training.evaluation import Evaluator

SPLIT = Split(["a", "b"], [0, 1], ["x", "y"])


def sealed() -> SealedSplit:
    return SealedSplit("colours", SPLIT)


def key(choice="epoch 1") -> TestKey:
    made = TestKey("a run")
    if choice:
        made.chosen(choice)
    return made


def experiment(task=None) -> Experiment:
    return experiments.experiment(task=task, epochs=1, batch_size=8)


def test_the_size_is_all_that_can_be_seen():
    assert len(sealed()) == 2
    for name in ("examples", "targets", "names"):
        with pytest.raises(TestLocked, match=f"test data of colours are sealed: .{name} needs a run's key"):
            getattr(sealed(), name)
    assert SPLIT not in vars(sealed()).values()
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        pickle.dumps(sealed())


def test_a_key_opens_once_and_only_after_the_choice():
    with pytest.raises(TestLocked, match="asked for before the choice was made"):
        sealed().open(key(choice=""))
    used = key()
    assert sealed().open(used) is SPLIT
    with pytest.raises(TestLocked, match="a run: the test data of colours were asked for a second time"):
        sealed().open(used)
    with pytest.raises(TestLocked, match="cannot be made again"):
        used.chosen("epoch 2")


def test_no_key_opens_while_anything_trains():
    with training("a run"), training("another"), pytest.raises(TestLocked, match="asked for during training"):
        sealed().open(key())
    with pytest.raises(ZeroDivisionError), training("a run"):
        raise ZeroDivisionError
    assert sealed().open(key()) is SPLIT


def test_a_mapped_split_is_sealed_and_nothing_is_mapped_during_training():
    split = sealed()
    mapped = split.map(lambda opened: [*opened.examples, "c"])
    with pytest.raises(TestLocked):
        _ = mapped.examples
    used = key()
    assert mapped.open(used) == ["a", "b", "c"]
    with pytest.raises(TestLocked, match="asked for a second time"):
        split.open(used)
    assert split.open(key()) is SPLIT
    with training("a run"), pytest.raises(TestLocked, match="during training"):
        sealed().map(lambda opened: opened)


def test_a_data_set_seals_its_test_split_at_once_and_copies_stay_sealed():
    data = ToyTask().load("colours")
    for made in (data, dataclasses.replace(data, note="x"), copy.copy(data)):
        assert isinstance(made.test, SealedSplit)
        assert len(made.test) == 48


@dataclass(frozen=True)
class Cheat(Method):
    """Looks at test labels while it is applied."""

    forged: bool = False

    def apply(self, backbone, model):
        test = ToyTask().load("colours").test
        _ = test.open(key()).targets if self.forged else test.targets


@pytest.mark.parametrize("forged", [False, True])
def test_a_method_that_reads_the_test_split_while_it_is_applied_fails(forged):
    with pytest.raises(TestLocked, match="during training" if forged else "are sealed"):
        experiment().measure(run("colours", Cheat(forged=forged)))


def test_a_method_that_reads_the_test_split_while_it_trains_fails():
    class Layer(Cheat):
        """Looks at test labels in the forward pass."""

        def apply(self, backbone, model):
            model.register_forward_hook(lambda *_: Cheat.apply(self, backbone, model))

    with pytest.raises(TestLocked, match="during training"):
        experiment().measure(run("colours", Layer(forged=True)))


def test_a_method_cannot_look_answers_up_while_it_is_tested():
    seen = []

    class Late(Cheat):
        """Looks at test labels in every forward pass, whatever comes of it."""

        def apply(self, backbone, model):
            model.register_forward_hook(lambda *_: self.look())

        def look(self):
            for way in (lambda test: test.open(key()), lambda test: test.map(seen.append)):
                with contextlib.suppress(TestLocked):
                    seen.append(way(ToyTask().load("colours").test))

    experiment().measure(run("colours", Late()))
    assert seen == []


class SelectsOnTest(ToyTask):
    """Gives its test split as validation data, under the same names or others."""

    renamed = False

    def load(self, dataset):
        train, test = self._split(0), self._split(2)
        names = [f"validation {name}" for name in test.names] if self.renamed else test.names
        return Data(dataset, ["red", "green", "blue"], train, Split(test.examples, test.targets, names), test, "", "")


def test_a_task_that_selects_on_test_data_is_refused():
    with pytest.raises(TestLocked, match="48 examples are in the validation split and in the test split"):
        SelectsOnTest().load("colours")

    class Renamed(SelectsOnTest):
        renamed = True

    trying = experiment(Renamed())
    for _ in range(2):
        with pytest.raises(TestLocked, match="48 of 48 test examples are validation examples under another name"):
            trying.measure(run("colours", "linear"))


def test_a_task_whose_test_data_are_in_training_is_refused():
    with pytest.raises(TestLocked, match="2 examples are in the train split and in the test split, such as 'x'"):
        Data("colours", ["a", "b"], SPLIT, Split([], [], []), SPLIT, "", "")


def test_the_lock_is_an_error_that_a_user_reads():
    assert issubclass(TestLocked, UserError)


class Counting(list):
    """Labels that count how often one of them is read."""

    reads = 0

    def __getitem__(self, index):
        type(self).reads += 1
        return super().__getitem__(index)

    def __iter__(self):
        type(self).reads += len(self)
        return super().__iter__()


class Counted(ToyTask):
    """A toy task whose test labels count their readers."""

    def load(self, dataset):
        data = super().load(dataset)
        test = data.test.open(key())
        return dataclasses.replace(data, test=dataclasses.replace(test, targets=Counting(test.targets)))


def test_test_labels_are_read_once_each_and_only_after_training():
    Counting.reads = 0
    reads_at_step = []
    measured = experiment(Counted())
    measured.prepare("colours")
    encoded = Counting.reads  # what is sealed away with the encoded examples
    measured.measure(run("colours", "linear"), lambda steps: reads_at_step.append(Counting.reads))
    assert set(reads_at_step) == {encoded}
    assert Counting.reads > encoded


class Elsewhere(ToyTask):
    """A toy task that is also tested on data from elsewhere."""

    def load(self, dataset):
        return dataclasses.replace(super().load(dataset), shifted={"mars": self._split(9)})


def test_shifted_test_data_are_scored_under_their_name_and_sealed_like_the_others():
    measured = experiment(Elsewhere())
    result, learner = measured.measure(run("colours", "linear"))
    mars = Elsewhere()._split(9)
    evaluator = Evaluator(Elsewhere(), measured.accelerator)
    scores, _ = evaluator.test(learner, encode(mars, Elsewhere().windows(ToyViT()), ToyViT()))
    assert result.test.keys() == {"accuracy", "mars accuracy"}
    assert result.test["mars accuracy"] == scores["accuracy"]
    assert len(result.predictions) == 48
    trial, _ = measured.measure(run("colours", "linear", 1000, space=Linear.space, trial=0))
    assert not any("mars" in name for name in trial.validation)
    data, once = Elsewhere().load("colours"), key()
    with pytest.raises(TestLocked, match="test data of colours mars are sealed"):
        _ = data.shifted["mars"].targets
    assert len(data.test.open(once)) == len(data.shifted["mars"].open(once)) == 48
    with pytest.raises(TestLocked, match="colours mars were asked for a second time"):
        data.shifted["mars"].open(once)
    with pytest.raises(TestLocked, match="are in the train split"):
        dataclasses.replace(data, shifted={"mars": data.train})


def test_a_trial_reads_no_test_label():
    measured = experiment(Counted())
    measured.prepare("colours")
    Counting.reads = 0
    trial, _ = measured.measure(run("colours", "linear", 1000, space=Linear.space, trial=0))
    assert Counting.reads == 0
    assert not hasattr(trial, "test")
