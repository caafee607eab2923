"""Windows on sentences, and their predictions."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from support.labelling import ENTITIES, PROPS, many, write_splits
from support.pictures import refusal
from zipeft.tasks.labelling.data import Sentence
from zipeft.tasks.labelling.task import Labelling

CORPUS = ["the cat sat on the mat", "unbelievable explorations of the spacecraft", "a journey to moons"]


SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]


def wordpiece():
    """Return a tokenizer as BERT's; it drops control characters, so some words have no piece."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=60, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    pair = "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1"
    special = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair=pair, special_tokens=special
    )
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_input_names=names,
    )  # fmt: skip


def byte_level(add_prefix_space=False):
    """Return a tokenizer as RoBERTa's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>", "<pad>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


class Stub:
    """As much of a backbone as makes windows."""

    def __init__(self, tokenizer, longest=512):
        self.tokenizer, self.max_length = (lambda: tokenizer), (lambda: longest)


TOKENIZERS = {"wordpiece": wordpiece(), "byte_level": byte_level()}


WORDS = st.lists(
    st.sampled_from(["the", "cat", "explorations", "unbelievable", "\u200b", "\x01", "日本", "[SEP]", "</s>", "a-b"]),
    min_size=1,
    max_size=30,
)


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(words=WORDS, predicate=st.sampled_from([(), ("cat",), ("explorations",)]), stride=st.integers(0, 6))
def test_windows_read_every_word_once_at_its_first_piece(kind, words, predicate, stride):
    tokenizer = TOKENIZERS[kind]
    task = Labelling(max_length=30, stride=stride)
    target = list(range(len(words)))
    windows = task.windows(Stub(tokenizer))(Sentence(tuple(words), predicate), target)
    space = " " if kind == "byte_level" else ""
    read = Counter()
    for inputs, labels, origin in windows:
        assert list(inputs) == tokenizer.model_input_names
        assert {(tensor.dtype, tensor.shape) for tensor in inputs.values()} == {(torch.int64, labels.shape)}
        assert len(origin) == len(labels) <= 30
        for token, label, word in zip(inputs["input_ids"].tolist(), labels.tolist(), origin, strict=True):
            assert label == (word if word >= 0 else -100)
            if word >= 0:
                read[word] += 1
                assert token == pieces(tokenizer, space + words[word])[0]
    assert read == Counter(index for index, word in enumerate(words) if pieces(tokenizer, space + word))


def pieces(tokenizer, word):
    return tokenizer(word, add_special_tokens=False, split_special_tokens=True)["input_ids"]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_word_is_read_where_it_has_words_around_it(kind):
    words = ("cat",) * 40
    task = Labelling(max_length=20, stride=8)
    windows = task.windows(Stub(TOKENIZERS[kind]))(Sentence(words), [0] * 40)
    assert len(windows) > 2
    for window, (_, _, origin) in enumerate(windows):
        inside = [position for position, word in enumerate(origin) if word >= 0]
        edges = [position for position in inside if min(position - 1, len(origin) - 2 - position) < 3]
        assert not [position for position in edges if 0 < window < len(windows) - 1]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_the_predicate_is_the_second_segment_of_every_window(kind):
    tokenizer = TOKENIZERS[kind]
    task = Labelling(max_length=20, stride=4)
    one = task.windows(Stub(tokenizer))(Sentence(("the", "cat"), ("cat",)), [0, 1])
    space = " " if kind == "byte_level" else ""
    assert len(one) == 1
    verb = pieces(tokenizer, space + "cat")
    many_windows = task.windows(Stub(tokenizer))(Sentence(("the", "cat") * 20, ("cat",)), [0, 1] * 20)
    assert len(many_windows) > 1
    for window in (*one, *many_windows):
        assert window.inputs["input_ids"].tolist()[-1 - len(verb) : -1] == verb


def test_byte_level_words_keep_their_space_whatever_the_tokenizer_adds():
    words = ("the", "cat", "explorations")
    task = Labelling()
    for add in (False, True):
        tokenizer = byte_level(add_prefix_space=add)
        ((inputs, _, origin),) = task.windows(Stub(tokenizer))(Sentence(words), [0, 0, 0])
        first = [token for token, word in zip(inputs["input_ids"].tolist(), origin, strict=True) if word >= 0]
        assert all(token.startswith("Ġ") for token in tokenizer.convert_ids_to_tokens(first))
        assert inputs["input_ids"].tolist() == tokenizer(" the cat explorations")["input_ids"]


def test_a_model_that_takes_fewer_tokens_is_refused():
    assert "max_length is 152, the backbone takes 128" in refusal(Labelling().windows, Stub(wordpiece(), 128))


@pytest.mark.parametrize(
    ("predicate", "said"), [((), "8 tokens, which"), (("unbelievable",), "beside the predicate 'unb")]
)
def test_a_window_must_have_room_for_a_sentence(predicate, said):
    windows = Labelling(max_length=10, stride=8).windows(Stub(wordpiece()))
    message = refusal(windows, Sentence(("the",) * 30, predicate), [0] * 30)
    assert said in message
    assert "set a higher max_length or a lower stride" in message
    assert len(windows(Sentence(("the", "cat")), [0, 0])) == 1


def perfect(windows, labels):
    """Return the outputs (1, tokens, labels) of a model that knows the target of every window, and errs elsewhere."""
    for window in windows:
        wrong = torch.full_like(window.target, labels - 1)
        right = torch.where(window.target == -100, wrong, window.target)
        yield torch.nn.functional.one_hot(right, labels)[None].float()


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("text", [ENTITIES, PROPS, many(3)])
@pytest.mark.parametrize("max_length", [18, 152])
def test_a_model_that_knows_the_targets_is_perfect(tmp_path, kind, text, max_length):
    task = Labelling(data_dir=write_splits(tmp_path / "a", text), max_length=max_length, stride=2)
    data = task.load("a")
    objective = task.objective("a", data.classes)
    windows = task.windows(Stub(TOKENIZERS[kind], 152))
    predictions = []
    for example, target in zip(data.train.examples, data.train.targets, strict=True):
        parts = windows(example, target)
        outputs = list(perfect(parts, len(data.classes)))
        predictions.append(objective.merge(parts, [objective.predict(each)[0] for each in outputs]))
    assert predictions == data.train.targets
    assert objective.score(predictions, data.train.targets)["f1"] == 1.0
    predictions[0] = [0] * len(predictions[0])
    assert objective.score(predictions, data.train.targets)["f1"] < 1.0


def test_a_word_without_pieces_is_outside_all_spans(tmp_path):
    write_splits(tmp_path / "a", "Rome B-X\n\x01 I-X\n\nRome B-X\n\x01 B-X\ncat B-X\n\n\x01 B-X\n")
    task = Labelling(data_dir=tmp_path)
    data = task.load("a")
    objective, windows, predictions = task.objective("a", data.classes), task.windows(Stub(wordpiece())), []
    for example, target in zip(data.train.examples, data.train.targets, strict=True):
        parts = windows(example, target)
        outputs = list(perfect(parts, len(data.classes)))
        assert len(parts) == 1
        assert torch.isfinite(objective.loss(outputs[0], parts[0].target[None]))
        predictions.append(objective.merge(parts, [objective.predict(each)[0] for each in outputs]))
    scores = objective.score(predictions, data.train.targets)
    assert (scores["precision"], scores["recall"]) == (2 / 3, 2 / 5)
