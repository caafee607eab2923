"""Articles in SQuAD's format, and tokenizers whose tokens can be counted by hand."""

from __future__ import annotations

import itertools
import json
import random
import re

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from support.pictures import SPLITS
from support.toys import split_of
from zipeft.objectives.extractive_qa import Answers
from zipeft.tasks.squad.task import SQuAD

SYLLABLES = ("ba", "ko", "é", "шу", "日本", "ri", "Ü", "x9", "naï", "z🦊")


def text_of(words, seed=0):
    """Return a text of so many words of several scripts, no two alike."""
    rng = random.Random(seed)
    made = dict.fromkeys("".join(rng.choices(SYLLABLES, k=4)) + str(number) for number in range(words))
    return "".join(word + rng.choice((" ", " ", ", ", ".  ", "-")) for word in made).strip()


def wordpiece(corpus):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(corpus, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", model_input_names=names
    )


def byte_level(corpus):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    names = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", model_input_names=names)


def words_in(context):
    return [(found[0], found.start()) for found in re.finditer(r"[^\s,.-]+", context)]


def gold(context, *texts):
    return Answers(texts, tuple(context.index(text) for text in texts))


def question(id_, context="The quick brown fox.", answers=("quick",), **more):
    return {
        "id": id_,
        "question": f"{id_}?",
        "answers": [{"text": text, "answer_start": context.find(text)} for text in answers],
        **more,
    }


def squad_json(articles=6, contexts=2, each=3, start=0, unanswerable=False):
    """Return a file's content in SQuAD's layout, no question of which occurs for another ``start``."""
    data, number = [], itertools.count(start)
    for article in range(articles):
        paragraphs = []
        for _ in range(contexts):
            context = text_of(12, seed=next(number))
            qas = []
            for asked in range(each):
                words = [word for word, _ in words_in(context)]
                impossible = unanswerable and asked == 0
                qas.append(
                    question(f"q{next(number)}", context, () if impossible else (words[asked], words[-1]))
                    | ({"is_impossible": impossible} if unanswerable else {})
                )
            paragraphs.append({"context": context, "qas": qas})
        data.append({"title": f"Article {start} {article}", "paragraphs": paragraphs})
    return {"version": "of a test", "data": data}


def rows_of(content):
    """Return a file's content as rows in the layout of the ``datasets`` library."""
    return [
        {
            "id": row["id"],
            "title": article["title"],
            "context": paragraph["context"],
            "question": row["question"],
            "answers": {
                "text": [answer["text"] for answer in row["answers"]],
                "answer_start": [answer["answer_start"] for answer in row["answers"]],
            },
        }
        for article in content["data"]
        for paragraph in article["paragraphs"]
        for row in paragraph["qas"]
    ]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False), "utf-8")
    return path


def load(path, **settings):
    task = SQuAD(data_dir=path, **settings)
    (name,) = task.datasets()
    return task.load(name)


def everything(data):
    """Return what a data set holds, as plain values."""
    splits = {split: split_of(data, split) for split in SPLITS}
    return {split: list(zip(part.names, part.examples, part.targets, strict=True)) for split, part in splits.items()}


def contexts_of(data):
    return {split: {example.context for example in split_of(data, split).examples} for split in SPLITS}
