"""CoNLL's formats: what is read, and what is refused with the place."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.labelling import ENTITIES, PROPS, load, other, sentences, tagged, write, write_splits
from support.pictures import SPLITS, refusal
from zipeft.tasks.labelling.entities import to_bio
from zipeft.tasks.labelling.roles import bracket_tags

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
