"""The embedded CLIP: its files, what its training never saw, and the script that trains it."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch
import train
from batches import Batches, augment

from zipeft.errors import UserError
from zipeft.sources import package_archive
from zipeft.tasks.coop import icon_concepts
from zipeft.tasks.coop.icon_concepts import HELD_OUT, Drawings, split
from zipeft.tasks.fgvc import icons

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
}
SETTINGS = {"steps": 6, "batch": 3, "rate": 1e-2, "decay": 0.5, "invert": 0.2, "seed": 1, "threads": 1}

AUGMENT = "batches.augment"


@pytest.fixture
def drawings():
    """Three drawings of each of eight concepts, every one another grey."""
    concepts = np.repeat(["dog", "cat", "cow", "hen", "red-fox", "bat", "owl", "ant"], 3)
    greys = np.arange(24, dtype=np.uint8) * 10
    return Drawings(np.tile(greys[:, None, None], (1, 16, 16)), np.array(["F", "G", "H"] * 8), concepts)


# --- what training never sees -----------------------------------------------------------------------------------------


def test_split_keeps_fonts_and_concepts_out(drawings):
    parts = split(drawings, {"G"}, {"cat", "owl"})
    assert set(parts.train.fonts) == {"F", "H"}
    assert set(parts.train.concepts) == {"dog", "cow", "hen", "red-fox", "bat", "ant"}
    assert set(parts.unseen_fonts.fonts) == set(parts.unseen_concepts.fonts) == {"G"}
    assert sorted(parts.unseen_fonts.concepts) == sorted(set(parts.train.concepts))
    assert sorted(parts.unseen_concepts.concepts) == ["cat", "owl"]


def test_a_drawing_of_an_unseen_concept_is_out_under_another_name(drawings):
    drawings.pixels[0] = drawings.pixels[3]  # font F has the cat under the name of dog as well
    train = split(drawings, {"G"}, {"cat"}).train
    assert [font for font, concept in zip(train.fonts, train.concepts, strict=True) if concept == "dog"] == ["H"]


def test_a_drawing_that_training_has_is_not_counted_as_unseen(drawings):
    drawings.pixels[1] = drawings.pixels[0]  # fonts F and G have the same dog
    assert "dog" not in split(drawings, {"G"}, {"cat"}).unseen_fonts.concepts


@pytest.mark.slow
def test_held_out_concepts_are_those_of_the_rule():
    glyphs = icons.read_glyphs()
    tests = Counter(icons.concept_of(glyph.name) for glyph in glyphs if glyph.font in icons.TEST_FONTS)
    concepts = icons.usable(icons.concepts_of(glyphs))
    left = {
        concept
        for concept, group in concepts.items()
        if sum(glyph.font not in icons.TEST_FONTS for glyph in group) >= icon_concepts.MIN_TRAIN
        and tests[concept] >= icon_concepts.MIN_TEST
    }
    trained = {icons.concept_of(glyph.name) for glyph in glyphs if glyph.font not in icons.TEST_FONTS}
    while True:
        words = Counter(word for concept in trained - left for word in concept.split("-"))
        unread = {one for one in left if min(words[word] for word in one.split("-")) < icon_concepts.MIN_WORD}
        if not unread:
            break
        left -= unread
    assert sorted(HELD_OUT) == sorted(left)


# --- batches ----------------------------------------------------------------------------------------------------------


def test_batches_pair_each_drawing_with_its_name_and_never_repeat_a_concept(drawings, monkeypatch):
    import open_clip

    monkeypatch.setattr(AUGMENT, lambda ink, invert: ink)
    batches = Batches(drawings, 12, batch=4, seed=3, invert=0.0)
    tokenizer = open_clip.SimpleTokenizer(context_length=12)
    shown, texts = Counter(), set()
    for step in range(40):  # two batches an epoch
        ink, tokens = batches.at(step)
        rows = ((1 - ink[:, 0, 0, 0]) * 25.5).round().int().tolist()
        concepts = drawings.concepts[rows]
        assert len(set(concepts)) == 4
        for concept, ids in zip(concepts, tokens, strict=True):
            text = tokenizer.decode(ids[: ids.argmax()].tolist()).replace("<start_of_text>", "").strip()
            assert concept.replace("-", " ") in text
            texts.add(text)
        shown.update(rows)
    assert {"a red fox icon", "an icon of red fox", "red fox"} <= texts
    assert set(shown) == set(range(24))
    for concept in range(8):
        assert sum(shown[row] for row in range(3 * concept, 3 * concept + 3)) == 20  # once an epoch


def test_a_batch_is_a_function_of_seed_and_step(drawings):
    first, again, other = (Batches(drawings, 12, batch=4, seed=seed, invert=0.5) for seed in (0, 0, 1))
    first.at(0)
    assert all(torch.equal(*pair) for pair in zip(first.at(5), again.at(5), strict=True))
    assert not torch.equal(first.at(5)[0], first.at(7)[0])
    assert not torch.equal(first.at(5)[0], other.at(5)[0])


def test_augmentation_changes_drawings_and_keeps_the_range():
    ink = torch.zeros(64, 1, 32, 32)
    ink[:, :, 8:24, 14:18] = 1
    torch.manual_seed(0)
    images = augment(ink, invert=0.0)
    assert images.shape == (64, 3, 32, 32)
    assert -1.0001 <= images.min() < -0.9 < 0.99 < images.max() <= 1.0001
    amounts = (1 - images[:, 0]).sum(dim=(1, 2)) / 2
    assert amounts.min() < 0.8 * 64 < 64 < amounts.max()
    assert len(amounts.unique()) == 64
    torch.manual_seed(0)
    assert torch.equal(augment(ink, invert=1.0), -images)


# --- training ---------------------------------------------------------------------------------------------------------


def test_a_killed_training_resumes_to_the_same_weights(drawings, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "SAVED_EVERY", 2)
    whole, _ = train._trained(TINY, drawings, SETTINGS, tmp_path / "whole.pt")
    at = Batches.at

    def killed(self, step):
        if step == 3:
            raise KeyboardInterrupt
        return at(self, step)

    monkeypatch.setattr(Batches, "at", killed)
    with pytest.raises(KeyboardInterrupt):
        train._trained(TINY, drawings, SETTINGS, tmp_path / "killed.pt")
    asked = []
    monkeypatch.setattr(Batches, "at", lambda self, step: asked.append(step) or at(self, step))
    resumed, _ = train._trained(TINY, drawings, SETTINGS, tmp_path / "killed.pt")
    assert asked == [2, 3, 4, 5]
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


def test_training_changes_the_tokens_that_it_reads_and_leaves_the_others_at_zero(drawings, tmp_path):
    settings = {**SETTINGS, "batch": 8}
    batches = Batches(drawings, 12, batch=8, seed=1, invert=0.0)
    start = train.build(TINY, batches.tokens, seed=1).state_dict()["token_embedding.weight"].clone()
    table = train._trained(TINY, drawings, settings, tmp_path / "c.pt")[0]["token_embedding.weight"]
    read = torch.zeros(len(table), dtype=torch.bool)
    read[batches.tokens.unique()] = True
    assert torch.equal(table.any(dim=1), read)
    assert not torch.isclose(table[read], start[read]).all(dim=1).any()


def test_the_rate_rises_and_then_falls_to_nothing(drawings, tmp_path, monkeypatch):
    rates = []
    monkeypatch.setattr(train, "SAVED_EVERY", 1)
    monkeypatch.setattr(
        train, "_save", lambda path, model, optimizer, *_: rates.append(optimizer.param_groups[0]["lr"])
    )
    train._trained(TINY, drawings, {**SETTINGS, "steps": 20}, tmp_path / "c.pt")
    assert rates[:2] == pytest.approx([0.5e-2, 1e-2])
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert 0 < rates[-1] < 1e-4


def test_a_run_writes_weights_results_and_the_card(drawings, tmp_path, monkeypatch):
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": {}}), "utf-8")
    (tmp_path / "CARD.md").write_text("Above.\n<!-- results -->\nold\n<!-- end of results -->\nBelow.\n", "utf-8")
    monkeypatch.setattr(train, "FOLDER", tmp_path)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda on: None)  # it would outlast this test
    monkeypatch.setattr(train, "split_of", lambda size, validate: split(drawings, {"G"}, {"cat", "owl"}))
    paths = ["--out", str(tmp_path), "--checkpoint", str(tmp_path / "c.pt")]
    assert train.main(["--validate", "--steps", "2", "--batch", "4", "--threads", "1", *paths]) == 0
    results = json.loads((tmp_path / "icon_clip.json").read_text("utf-8"))
    assert results["drawings"] == 12
    assert results["sha256"] == package_archive.file_sha256(tmp_path / "icon_clip.safetensors")
    assert results["zero_shot"]["unseen_concepts"]["chance"] == 0.5
    assert results["zero_shot"]["unseen_concepts"]["top5"] == 1  # of two classes
    assert results["zero_shot"]["unseen_fonts"]["images"] == 6
    card = (tmp_path / "CARD.md").read_text("utf-8")
    assert card.startswith("Above.\n<!-- results -->\n")
    assert card.endswith("<!-- end of results -->\nBelow.\n")
    assert "old" not in card
    assert f"| {100 * results['zero_shot']['unseen_fonts']['top5']:.1f} " in card
    assert not (tmp_path / "c.pt").exists()  # the next training starts anew


def test_a_checkpoint_of_other_settings_is_refused(drawings, tmp_path):
    train._trained(TINY, drawings, {**SETTINGS, "steps": 1}, tmp_path / "c.pt")
    with pytest.raises(UserError, match=r"c\.pt is of a training with another rate: delete it, or name another"):
        train._trained(TINY, drawings, {**SETTINGS, "steps": 1, "rate": 1e-3}, tmp_path / "c.pt")


def test_a_damaged_checkpoint_is_refused(drawings, tmp_path):
    (tmp_path / "c.pt").write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match=r"c\.pt cannot be read .*: delete it"):
        train._trained(TINY, drawings, SETTINGS, tmp_path / "c.pt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rate", "nan"], "--rate must be above 0, not nan"),
        (["--steps", "0"], "--steps must be above 0, not 0"),
        (["--invert", "2"], "--invert from 0 to 1"),
        (["--epochs", "2"], "unrecognized arguments: --epochs 2"),
    ],
)
def test_bad_options_are_one_line(capsys, arguments, message):
    assert train.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_batch_of_more_concepts_than_there_are_is_refused(drawings):
    with pytest.raises(UserError, match="--batch 9 is above the number of concepts, 8"):
        Batches(drawings, 12, batch=9, seed=0, invert=0.0)


def test_a_loss_that_is_not_finite_ends_the_training(drawings, tmp_path, monkeypatch):
    monkeypatch.setattr(AUGMENT, lambda ink, invert: augment(ink, invert) / 0)
    with pytest.raises(UserError, match="not finite at step 0"):
        train._trained(TINY, drawings, SETTINGS, tmp_path / "c.pt")
