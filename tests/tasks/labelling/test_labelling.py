"""Sequence labelling: CoNLL's formats, the splits of a folder, and windows on sentences."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from support.pictures import SPLITS, refusal
from support.toys import split_of
from zipeft.api.settings import override
from zipeft.tasks.labelling.conll import find_splits
from zipeft.tasks.labelling.data import Sentence
from zipeft.tasks.labelling.entities import to_bio
from zipeft.tasks.labelling.roles import bracket_tags
from zipeft.tasks.labelling.task import Labelling

ENTITIES = """\
-DOCSTART- -X- -X- O

U.N. NNP I-NP I-ORG
official NN I-NP O
Ekeus NNP I-NP I-PER

Rome NNP I-NP I-LOC
Paris NNP I-NP B-LOC
"""

PROPS = """\
The DT - (A0* (A0*
spacecraft NN - *) *)
faces VB face (V*) *
a DT - (A1* *
journey NN - * *
to TO - * *
explore VB explore * (V*)
moons NN - *) (A1*)

Yes UH -
"""

DOCUMENTS = """\
#begin document (bc/cctv/00/cctv_0000); part 000
bc/cctv/00/cctv_0000 0 0 They PRP (TOP(S(NP*) - - - Speaker#1 * (ARG0*) * -
bc/cctv/00/cctv_0000 0 1 plan VBP (VP* plan 01 1 Speaker#1 * (V*) * -
bc/cctv/00/cctv_0000 0 2 talks NNS (NP*) talk - 1 Speaker#1 * (ARG1*) (V*) (3)
bc/cctv/00/cctv_0000 0 3 today NN *) talk 01 2 Speaker#1 (DATE) * (ARGM-TMP*) -

#end document
#begin document (bc/cctv/00/cctv_0000); part 001
bc/cctv/00/cctv_0000 1 0 Go VB (TOP(VP*) go 02 1 - * (V*) -

#end document
"""

FIRST_WORDS = ("U.N.", "Rome", "The", "Yes", "They", "Go", "w0", "w1", "w2")


def other(text, mark="~"):
    """Return a file of other sentences: the first word of each has the mark behind it."""
    for word in FIRST_WORDS:
        text = re.sub(rf"(^|[ \ufeff]){re.escape(word)}(?=[ \t])", rf"\1{word}{mark}", text, flags=re.MULTILINE)
    return text


def write(folder, **files):
    """Write files into a folder; "__" in a name stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def write_splits(folder, text, names=("train.txt", "dev.txt", "test.txt")):
    """Write a file, and others of the same form with other sentences."""
    for index, name in enumerate(names):
        write(folder, **{name: other(text, "~" * index)})
    return folder


def sentences(*tagged):
    """Return the text of a file from sentences such as "Rome/B-LOC is/O"."""
    return "\n".join("".join(word.replace("/", " ") + "\n" for word in each.split()) for each in tagged)


def many(count, first=0):
    """Return sentences, each of its own word."""
    return sentences(*(f"w{index}/B-X is/O" for index in range(first, first + count)))


def load(folder, **settings):
    task = Labelling(data_dir=folder, **settings)
    (name,) = task.datasets()
    return task.load(name)


def tagged(data, split="train"):
    """Return (words, tags) of every example of a split, with the predicate in between where there is one."""
    part = split_of(data, split)
    return [
        (*(" ".join(words).replace("~", "") for words in example if words), " ".join(data.classes[at] for at in target))
        for example, target in zip(part.examples, part.targets, strict=True)
    ]


# --- the task ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["quick", "standard", "paper"])
def test_presets_are_settings_of_the_task(preset, tmp_path):
    chosen = Labelling.presets[preset]
    task = Labelling(data_dir=write_splits(tmp_path / "a", ENTITIES), **chosen.task)
    assert task.datasets() == ("a",)
    assert (task.max_length, task.stride) == (152, 32)
    assert chosen.protocol["batch_size"] == 16
    assert task.train_sentences == (2000 if preset == "quick" else 0)


def test_published_rows_have_a_value_a_column():
    (table,) = Labelling.published
    assert {len(row) for row in table.rows.values()} == {len(table.columns)} == {5}
    assert table.rows["Zero-init"][table.columns.index("CoNLL04")] == "88.8"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "has no data of its own: name a folder with --data-dir"),
        ({"data_dir": "/no/such/folder"}, "data folder /no/such/folder does not exist"),
    ],
)
def test_data_must_be_given(values, said):
    assert said in refusal(override(Labelling, values).datasets)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"format": "xml"}, "'xml' is not one of auto, ner, srl"),
        ({"stride": "152"}, "less than max_length (152)"),
        ({"stride": "-1"}, "give 0 or more"),
        ({"split_seed": "-1"}, "give a number from 0"),
        ({"train_sentences": "-1"}, "or 0 for all"),
    ],
)
def test_bad_settings_are_refused(values, said):
    assert said in refusal(override, Labelling, values)


# --- formats ----------------------------------------------------------------------------------------------------------

ENTITIES_AS_BIO = [("U.N. official Ekeus", "B-ORG O B-PER"), ("Rome Paris", "B-LOC B-LOC")]


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (ENTITIES, "IOB1 tags rewritten as BIO"),
        (ENTITIES.replace("\n", "\r\n"), "IOB1"),
        ("\ufeff" + ENTITIES.replace(" ", "\t") + "\n \t\n\n", "IOB1"),
        (sentences("U.N./B-ORG official/O Ekeus/B-PER", "Rome/B-LOC Paris/B-LOC"), "named entities, BIO tags;"),
        (sentences("U.N./S-ORG official/O Ekeus/S-PER", "Rome/S-LOC Paris/S-LOC"), "IOBES"),
        (sentences("U.N./B-ORG official/O Ekeus/I-PER", "Rome/B-LOC Paris/B-LOC"), "IOB tags"),
    ],
)
def test_entities_are_read_as_bio_whatever_the_form(tmp_path, text, note):
    data = load(write_splits(tmp_path / "news", text))
    for split in SPLITS:
        assert tagged(data, split) == ENTITIES_AS_BIO
    assert data.classes == ["O", "B-LOC", "B-ORG", "B-PER"]
    assert note in data.note
    assert "sentences: 2 train, 2 validation, 2 test" in data.note
    assert data.source == "folder news"


def test_names_say_where_a_sentence_stands(tmp_path):
    data = load(write_splits(tmp_path, ENTITIES, ("eng.train", "eng.testa", "eng.testb")))
    assert list(data.train.names) == ["eng.train:3", "eng.train:7"]
    assert list(data.validation.names) == ["eng.testa:3", "eng.testa:7"]


def test_the_column_of_tags_can_be_named(tmp_path):
    write_splits(tmp_path, "Rome\tB-LOC\ty\nis\tO\tz\n")
    assert "train.txt line 1: the tag 'y' is not O" in refusal(load, tmp_path)
    for column in (1, -2):
        assert tagged(load(tmp_path, tag_column=column)) == [("Rome is", "B-LOC O")]
    for column in (0, 3, -3, -4):
        assert f"none for the tag (tag_column={column})" in refusal(load, tmp_path, tag_column=column)


def test_tags_may_have_no_type(tmp_path):
    data = load(write_splits(tmp_path, "The O\nold B\nmill I\n\nRome B\nParis B\nin O\n"))
    assert data.classes == ["O", "B", "I"]
    assert tagged(data) == [("The old mill", "O B I"), ("Rome Paris in", "B B O")]
    assert "named entities, BIO tags" in data.note
    write_splits(tmp_path, "The O\nold I\nmill I\nhe O\nRome I\nParis B\n")
    assert tagged(load(tmp_path)) == [("The old mill he Rome Paris", "O B I O B B")]
    assert "IOB1 tags" in load(tmp_path).note
    write_splits(tmp_path, "The S\nold B\nmill E\n")
    assert tagged(load(tmp_path)) == [("The old mill", "B B I")]


def test_comments_before_a_sentence_are_no_words(tmp_path):
    text = "# newdoc\n# text = w0 is\nw0\tB-X\nis\tO\n\n# text = # w1\n#\tO\nw1\tB-X\n"
    data = load(write_splits(tmp_path, text))
    assert tagged(data) == [("w0 is", "B-X O"), ("# w1", "O B-X")]  # a "#" with a tag is a word
    assert list(data.train.names) == ["train.txt:3", "train.txt:7"]


@pytest.mark.parametrize("start", [0, 1])
def test_a_column_that_counts_the_words_is_passed_over(tmp_path, start):
    rows = [["w0", "B-X"], ["is", "O"]], [["w1", "B-X"]]
    text = "\n".join("".join(f"{at}\t{word}\t{tag}\n" for at, (word, tag) in enumerate(each, start)) for each in rows)
    for index, name in enumerate(("train.txt", "dev.txt", "test.txt")):
        write(tmp_path, **{name: text.replace("w", "w" * (index + 1))})
    data = load(tmp_path)
    assert tagged(data) == [("w0 is", "B-X O"), ("w1", "B-X")]
    assert "the second column of train.txt has the words, its first counts them" in data.note
    assert "none for the tag (tag_column=1)" in refusal(load, tmp_path, tag_column=1)


def test_numbers_that_do_not_count_are_words(tmp_path):
    write_splits(tmp_path, "1\tx\tO\nw0\ty\tB-X\n\n1\tx\tO\nw1\ty\tB-X\n")
    assert tagged(load(tmp_path)) == [("1 w0", "O B-X"), ("1 w1", "O B-X")]


def test_words_may_hold_what_other_tools_take_for_blanks_or_ends_of_lines(tmp_path):
    data = load(write_splits(tmp_path, "Rome B-X\na\u00a0b O\nc\u2028d B-X\n\u0085 I-X\n"))
    assert data.train.examples[0].words == ("Rome", "a\u00a0b", "c\u2028d", "\u0085")


SPACECRAFT = "The spacecraft faces a journey to explore moons"


@pytest.mark.parametrize("middle", ["", "- ", "(S* x "])
def test_propositions_become_one_example_a_predicate(tmp_path, middle):
    text = re.sub(r"^(\S+) \S+ ", rf"\1 {middle}", PROPS, flags=re.MULTILINE)
    names = ("train.props", "devel.props", "test.wsj.props", "test.brown.props")
    data = load(write_splits(tmp_path, text, names))
    for split in SPLITS:
        assert tagged(data, split) == [
            (SPACECRAFT, "faces", "B-A0 I-A0 O B-A1 I-A1 I-A1 I-A1 I-A1"),
            (SPACECRAFT, "explore", "B-A0 I-A0 O O O O O B-A1"),
        ]
    assert data.classes == ["O", "B-A0", "B-A1", "I-A0", "I-A1"]
    assert "one example a predicate, V and C-V not scored, classes from all splits" in data.note
    assert "predicates: 2 train, 2 validation, 2 test, 2 brown" in data.note
    assert list(data.shifted) == ["brown"]
    assert len(set(data.train.names)) == 2


def test_the_predicate_column_decides_where_no_v_is_marked(tmp_path):
    data = load(write_splits(tmp_path, PROPS.replace("(V*)", "*")))
    assert [predicate for _, predicate, _ in tagged(data)] == ["faces", "explore"]


def test_documents_of_2012_are_read_from_folders(tmp_path):
    for index, split in enumerate(("train", "development", "test")):
        folder = tmp_path / "conll12" / split / "bc"
        write(folder, a_gold_conll=other(DOCUMENTS, "~" * index), a_auto_conll="not read", readme__md="nor this")
    data = load(tmp_path)
    for split in SPLITS:
        assert tagged(data, split) == [
            ("They plan talks today", "plan", "B-ARG0 O B-ARG1 O"),
            ("They plan talks today", "talks", "O O O B-ARGM-TMP"),
            ("Go", "Go", "O"),
        ]
    assert data.train.names[1] == "train/bc/a_gold_conll:2:13"


def test_the_format_can_be_said(tmp_path):
    write_splits(tmp_path, PROPS)
    assert "the tag '(A0*' is not O" in refusal(load, tmp_path, format="ner")
    write_splits(tmp_path, ENTITIES)
    assert "no column names the predicates" in refusal(load, tmp_path, format="srl")


KINDS = st.lists(st.tuples(st.sampled_from(["", "A0", "A1", "AM-TMP"]), st.integers(1, 3)), min_size=1, max_size=8)


@given(KINDS)
def test_entities_come_back_from_every_form(spans):
    bio, iob1, iobes, previous = [], [], [], ""
    for kind, length in spans:
        inside = [f"I-{kind}" if kind else "O"] * length
        begun = [f"B-{kind}", *inside[1:]]
        bio += begun if kind else inside
        iob1 += begun if kind and kind == previous else inside
        ended = [f"S-{kind}"] if length == 1 else [*begun[:-1], f"E-{kind}"]
        iobes += ended if kind else inside
        previous = kind
    assert to_bio(bio) == to_bio(iob1) == to_bio(iobes) == bio


@given(KINDS)
def test_roles_come_back_from_brackets(spans):
    bio, brackets = [], []
    for kind, length in spans:
        bio += [f"B-{kind}", *[f"I-{kind}"] * (length - 1)] if kind else ["O"] * length
        column = ["*"] * length
        if kind:
            column[0] = f"({kind}{column[0]}"
            column[-1] += ")"
        brackets += column
    assert bracket_tags(brackets) == bio


# --- what is wrong in a file ------------------------------------------------------------------------------------------


GOOD = "The - (A0*\ncat - *)\nsat sit (V*)\n\n"


def roles(*column):
    """Return a file whose second sentence, from line 5 on, has a predicate in its second row, and these roles."""
    return GOOD + "".join(f"{' '.join(row)}\n" for row in zip("abc", "-v-", column, strict=True))


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a O\nb O O\n", 2, "columns: 3, where line 1 has 2"),
        ("a O\n\nb\n", 3, "columns: 1, where line 1 has 2"),
        ("a\nb\n", 1, "columns: 1, none for the tag"),
        ("a O\nb O\nc Q-PER\n", 3, "the tag 'Q-PER' is not O, or B-, I-, E- or S- and a type"),
        ("a O\nb B-\n", 2, "the tag 'B-' is not"),
        ("a O\nb PER\n", 2, "the tag 'PER' is not"),
        ("a B-X\nb I\n", 2, "the tag has no type, where that of line 1 has one"),
        ("# a b c\n# d\n", 1, "comments alone"),
        ("\n\n \t\n", 0, "holds no sentence"),
        ("-DOCSTART- O\n", 0, "holds no sentence"),
        ("", 0, "holds no sentence"),
        (b"a O\n\nb\xff O\n", 3, "is not UTF-8"),
        (roles("(A0*", "(V*)", "*)"), 6, "column 3 opens V inside A0: roles cannot be nested"),
        (roles("(A0*(A1*)", "(V*)", "*"), 5, "column 3 holds '(A0*(A1*)', which is not of the form"),
        (roles("(A0(A1*))", "(V*)", "*"), 5, "column 3 opens A1 inside A0"),
        (roles("(A0*))", "(V*)", "*"), 5, "column 3 closes a role that is not open"),
        (roles("*)", "(V*)", "*"), 5, "column 3 closes a role that is not open"),
        (roles("*", "(V*)", "(A1*"), 7, "column 3 opens A1 and does not close it"),
        (roles("A0", "(V*)", "*"), 5, "column 3 holds 'A0', which is not of the form"),
        (roles("*", "(V*) *", "*"), 6, "columns: 4, where line 5 before it has 3"),
        (roles("* *", "(V*) *", "* *"), 5, "predicates: 1, columns of roles: 2"),
        ("- *\nface (V*)\n\n- *\nface (V*)\n", 1, "no words: put them in front"),
        ("a -\nb -\nc *\nd *\ne *\nf *\n", 1, "no column names the predicates"),
        (DOCUMENTS.replace(" -\n", "\n", 1), 3, "columns: 14, where line 2 before it has 13"),
        (DOCUMENTS.replace("plan VBP", "VBP"), 3, "columns: 13, where line 2 before it has 14"),
        (DOCUMENTS.replace("They", "[WORD]"), 2, "the words are not filled in"),
        (DOCUMENTS.replace("(V*) (3)", "* (3)").replace("- 1", "02 1"), 2, "column 13 marks no V, and no other column"),
        ("#begin document (a); part 0\na 0 0 Go\n#end document\n", 2, "columns: 4, where there must be 12 or more"),
        ("#begin document (a); part 0\n" + "a " * 12, 0, "marks no predicate"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path, text, line, said):
    is_srl = b"*" in text or b"#begin" in text if isinstance(text, bytes) else "*" in text or "#begin" in text
    write(tmp_path, train__txt=text, test__txt=GOOD if is_srl else "a O\nb B-X\n")
    message = refusal(load, tmp_path)
    assert said in message
    assert f"{tmp_path / 'train.txt'}{f' line {line}' if line else ''}" in message


def test_a_file_without_tags_is_refused(tmp_path):
    write_splits(tmp_path, sentences("Rome/O is/O"))
    assert "has no training word with another tag than O" in refusal(load, tmp_path)


@pytest.mark.parametrize("split", ["dev", "test"])
def test_entities_of_a_type_that_training_lacks_are_refused(tmp_path, split):
    write_splits(tmp_path, ENTITIES)
    with open(tmp_path / f"{split}.txt", "a") as file:
        file.write("\nMay - - I-DATE\n")
    message = refusal(load, tmp_path)
    assert message == f"{tmp_path / f'{split}.txt'} line 10: no entity of the type 'DATE' is in the training data"


def test_a_tag_of_a_known_type_and_a_role_of_any_may_be_new_in_test(tmp_path):
    write_splits(tmp_path / "ner", ENTITIES)
    write(tmp_path / "ner", test__txt=other(ENTITIES, "~~~").replace("B-LOC", "I-LOC"))
    assert load(tmp_path / "ner").classes == ["O", "B-LOC", "B-ORG", "B-PER", "I-LOC"]
    write_splits(tmp_path / "srl", PROPS)
    write(tmp_path / "srl", test__txt=other(PROPS, "~~~").replace("A1", "R-A1"))
    assert {"B-A1", "B-R-A1"} < set(load(tmp_path / "srl").classes)


# --- splits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("train.txt", "dev.txt", "test.txt"), "train validation test"),
        (("conll05.train.txt", "conll05.devel.txt", "conll05.test.wsj.txt", "conll05.test.brown.txt"),
         "train validation test brown"),
        (("eng.train", "eng.testa", "eng.testb"), "train validation test"),
        (("TRAIN.BIO", "Validation.iob2", "test-b.tsv"), "train validation test"),
        (("train_valid.txt", "train.english.v4_gold_conll", "valid.conll"), "train validation"),
        (("train.txt", "train.txt.gz", "testb.json", "dev.md", ".test.txt", "contest.txt"), "train"),
    ],
)  # fmt: skip
def test_files_are_known_by_the_names_people_have(tmp_path, names, splits):
    write(tmp_path, **dict.fromkeys(names, "a O\n"))
    assert sorted(find_splits(tmp_path)) == sorted(splits.split())


def test_two_files_of_a_split_are_refused(tmp_path):
    write(tmp_path, train__txt=ENTITIES, dev__txt=ENTITIES, testa__txt=ENTITIES)
    assert "has two validation sets, dev.txt and testa.txt: keep one" in refusal(load, tmp_path)


def test_several_sets_in_one_folder(tmp_path):
    for name in ("conll03", "CoNLL04"):
        write_splits(tmp_path / name, ENTITIES)
    write(tmp_path / "notes", readme__txt="a")
    task = Labelling(data_dir=tmp_path)
    assert task.datasets() == ("CoNLL04", "conll03")
    assert Labelling(data_dir=tmp_path, sets=("conll04",)).datasets() == ("CoNLL04",)
    assert task.load("CONLL03").name == "conll03"
    assert "did you mean 'conll03'? (there: CoNLL04, conll03)" in refusal(task.load, "conll05")
    assert "holds no training file" in refusal(load, tmp_path / "notes")


def test_development_data_stand_in_for_test_data(tmp_path):
    write(tmp_path, train__txt=many(20), dev__txt=many(5, first=20))
    data = load(tmp_path)
    assert [len(split_of(data, split)) for split in SPLITS] == [18, 2, 5]
    assert "the development data are the test data; validation cut from the training data, 10% of its sentences" in (
        data.note
    )
    (tmp_path / "dev.txt").unlink()
    assert "neither test nor development data: add test.txt or dev.txt" in refusal(load, tmp_path)


def test_validation_is_cut_by_document_where_documents_are_told_apart(tmp_path):
    documents = [many(1 + index % 3, first=10 * index) for index in range(20)]
    train = "".join(f"-DOCSTART- O\n\n{document}\n" for document in documents)
    write(tmp_path, train__txt=train, test__txt=many(5, first=900))
    cuts = set()
    for seed in range(4):
        data = load(tmp_path, split_seed=seed)
        assert f"10% of its documents with seed {seed}" in data.note
        by_split = [
            {int(example.words[0][1:]) // 10 for example in getattr(data, split).examples}
            for split in ("train", "validation")
        ]
        assert [len(found) for found in by_split] == [18, 2]
        assert not by_split[0] & by_split[1]
        assert load(tmp_path, split_seed=seed).checksum == data.checksum
        cuts.add(frozenset(by_split[1]))
    assert len(cuts) > 1


def test_one_sentence_is_too_few(tmp_path):
    write(tmp_path, train__txt=many(1), test__txt=many(1, first=5))
    assert "has one sentence, too few to cut validation data from" in refusal(load, tmp_path)


def test_fewer_training_sentences_are_a_part_of_more(tmp_path):
    write(tmp_path, train__txt=many(30), dev__txt=many(5, first=50), test__txt=many(5, first=60))
    parts = [load(tmp_path, train_sentences=count) for count in (3, 10, 29, 0)]
    assert [len(part.train) for part in parts] == [3, 10, 29, 30]
    assert all(set(less.train.names) < set(more.train.names) for less, more in pairwise(parts))
    assert parts[1].train.names == sorted(parts[1].train.names, key=lambda name: int(name.split(":")[1]))
    assert "trained on 10 of 30 sentences, chosen with seed 0" in parts[1].note
    assert len({part.checksum for part in parts}) == 4
    assert len({len(part.validation) for part in parts}) == 1


def test_a_sentence_is_taken_with_all_its_predicates(tmp_path):
    write_splits(tmp_path, PROPS + "\n" + other(PROPS, "|"))
    data = load(tmp_path, train_sentences=1)
    assert [predicate for _, predicate, _ in tagged(data)] == ["faces", "explore"]


def test_test_sentences_that_are_in_training_are_counted_and_many_refused(tmp_path):
    write(tmp_path, train__txt=many(20), dev__txt=many(5, first=30), test__txt=many(10, first=15))
    assert "5 test sentences also in training, word for word" in load(tmp_path).note
    write(tmp_path, test__txt=many(10, first=14))
    assert "6 of 10 test sentences are also in training, word for word" in refusal(load, tmp_path)


# --- windows ----------------------------------------------------------------------------------------------------------

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


# --- predictions ------------------------------------------------------------------------------------------------------


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
