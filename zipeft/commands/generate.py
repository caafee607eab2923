"""``zipeft generate``: answers of a language model, with a saved adapter or as it is."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zipeft import locks
from zipeft.commands.answering import Sampling, of_adapter, of_backbone
from zipeft.commands.common import (
    ArgumentParser,
    add_backbone,
    chosen_backbone,
    command_parser,
    exit_status,
    fraction,
    positive_int,
    temperature,
)
from zipeft.errors import UserError
from zipeft.files import check_target
from zipeft.formatting import counted

if TYPE_CHECKING:
    from zipeft.generation.generator import TextGenerator
    from zipeft.generation.questions import Question

EXAMPLES = """\
examples:
  zipeft generate adapters/llama-instruct/alpaca/zero_gated-seed0 "What is the capital of France?"
      the adapter's answer, by the template that it was trained with
  zipeft generate ADAPTER "Sum this up." --input "The meeting began with ..." --temperature 0.7 --top-p 0.9 --seed 1
  zipeft generate ADAPTER --image photo.jpg "What is the red shape?" --options "circle|square"
      an adapter of a vision-language model, and how likely each of the options is
  zipeft generate --backbone llama "What is the capital of France?" --template chat
      a backbone as it is
  zipeft generate ADAPTER --file prompts.jsonl --out answers.jsonl --max-new-tokens 512
      answers all that is not answered in answers.jsonl yet: cut off, the same command goes on
  zipeft generate --backbone llama --checkpoint meta-llama/Llama-3.2-1B-Instruct --file question.jsonl --out llama.jsonl
      Vicuna's questions, say; zipeft judge compares two such files of answers

prompts: JSON lines of {"instruction", "input"?, "id"?} or of FastChat's {"question_id", "text" or "turns"}; JSON, CSV,
TSV and parquet with these columns, too. "image" is the path of a file: a relative one begins at the folder of the
prompts, and stays in it. "options" are a list, or a text as that of --options.
answers: JSON lines of {"id", "instruction", "input"?, "image"?, "options"?, "answer", "tokens", "model", "settings"}.
An adapter of a vision-language model is asked as its task asks; --input is the context of a question.
A model that thinks before it answers is asked for an answer without a thought, and a thought is left out of an answer.
A template that writes the date has the same one whatever the day.
"""


@exit_status
def main(argv: Sequence[str] | None = None) -> int:
    """Answer one prompt or a file of them, and return the exit status."""
    options = _parse(argv)
    from zipeft.generation.questions import Question, options_of, read_questions

    if options.file:
        _answer_file(read_questions(options.file), options)
    else:
        image = "" if options.image is None else str(options.image)
        choices = options_of(options.options, "--options") if options.options else ()
        question = Question(1, options.prompt.strip(), options.input.strip(), image=image, options=choices)
        _answer(question, options)
    return 0


# --- the command line -------------------------------------------------------------------------------------------------


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    options = _parser().parse_intermixed_args(argv)
    expected = [*(["ADAPTER"] if not options.backbone else []), *(["PROMPT"] if not options.file else [])]
    if len(options.words) != len(expected):
        what = " and ".join(expected) or "neither ADAPTER nor PROMPT"
        raise UserError(f"with these options, give {what} (got {counted(len(options.words), 'word')})")
    given = dict(zip(expected, options.words, strict=True))
    options.adapter, options.prompt = given.get("ADAPTER"), given.get("PROMPT")
    if bool(options.file) != bool(options.out):
        raise UserError("--file and --out go together: the prompts, and where their answers go")
    if options.out:
        check_target(options.out)
    if options.adapter is not None and not options.adapter.strip():
        raise UserError("the ADAPTER is empty: name the folder that --save-adapters wrote")
    chosen_backbone(options)  # refuses what is unknown, and a checkpoint that would be passed over
    for name in ("input", "image", "options"):
        if getattr(options, name) and options.file:
            raise UserError(f"--{name} goes with a PROMPT; prompts of a file have their own")
    if options.prompt is not None and not options.prompt.strip():
        raise UserError("the PROMPT is empty: ask something")
    texts = {f"--{name}": getattr(options, name) for name in ("input", "template", "options")}
    for name, text in {"PROMPT": options.prompt, **texts}.items():
        if text and not text.isascii() and text.encode(errors="ignore").decode() != text:
            raise UserError(f"the {name} is not UTF-8: convert it, or check the terminal's encoding")
    if options.top_p < 1 and not options.temperature:
        raise UserError("--top-p goes with a --temperature above 0; at 0 nothing is drawn")
    return options


def _parser() -> ArgumentParser:
    parser = command_parser(
        "zipeft generate",
        "Answer a prompt, or a file of them, with a saved adapter or with a backbone as it is.",
        EXAMPLES,
        usage="zipeft generate (ADAPTER | --backbone NAME) (PROMPT | --file PROMPTS --out ANSWERS) [options]",
    )
    parser.add_argument(
        "words", type=str, nargs="*", metavar="ADAPTER PROMPT", help="folder that --save-adapters wrote; what is asked"
    )
    add_backbone(parser, "take a backbone as it is, without an adapter")
    parser.add_argument(
        "--template",
        metavar="TEMPLATE",
        help="alpaca, chat, or a text with {instruction} and {input} (default: the adapter's; of a backbone the chat "
        "template of its tokenizer, or else alpaca)",
    )
    parser.add_argument("--input", type=str, default="", metavar="TEXT", help="what the PROMPT is about")
    parser.add_argument("--image", type=Path, metavar="FILE", help="the image that the PROMPT asks about")
    parser.add_argument("--options", metavar="OPTIONS", help='what the PROMPT lets choose from, as "yes|no"')
    parser.add_argument("--file", type=Path, metavar="PROMPTS", help="ask all that is in a file")
    parser.add_argument("--out", type=Path, metavar="ANSWERS", help="where the answers go, and are looked for")
    parser.add_argument("--batch-size", type=positive_int, default=8, metavar="N", help="prompts at once (default: 8)")
    parser.add_argument(
        "--max-new-tokens", type=positive_int, default=256, metavar="N", help="of the longest answer (default: 256)"
    )
    parser.add_argument(
        "--temperature",
        type=temperature,
        default=0.0,
        metavar="T",
        help="at which tokens are drawn (default: 0, none is)",
    )
    parser.add_argument(
        "--top-p", type=fraction, default=1.0, metavar="P", help="draw from the likeliest that make up P"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of what is drawn (default: 0)")
    return parser


# --- answering --------------------------------------------------------------------------------------------------------


def _text_generator(options: argparse.Namespace) -> tuple[TextGenerator, dict[str, Any]]:
    """Return what answers, and the record of it that stands beside each answer."""
    drawing = {}
    if options.temperature:
        drawing = {"do_sample": True, "temperature": options.temperature, "top_p": options.top_p, "top_k": 0}
    sampling = Sampling(options.max_new_tokens, drawing, options.seed)
    if options.adapter:
        generator, origin = of_adapter(Path(options.adapter), options.template, sampling)
    else:
        generator, origin = of_backbone(options, sampling)
    if drawing:  # of which the seed's draws are taken by the batch
        names = ("temperature", "top_p", "seed", *(["batch_size"] if options.file else []))
        origin["settings"] |= {name: getattr(options, name) for name in names}
    return generator, origin


def _answer(question: Question, options: argparse.Namespace) -> None:
    """Write the answer to stdout while it is made, then how likely the question's options are."""
    from zipeft.generation.generator import Printer

    generator, _ = _text_generator(options)
    printer = Printer(generator.text)
    prompt, likelihoods = generator.prompt(question), generator.likelihoods(question)
    start = time.perf_counter()
    (ids,) = generator.answer([prompt], streamer=printer)
    printer.finish(ids)
    for option, likelihood in likelihoods.items():
        print(f"{likelihood:.3f} {option}")
    _tell(len(ids), time.perf_counter() - start)


def _answer_file(questions: Sequence[Question], options: argparse.Namespace) -> None:
    """Write the answers that are not in the file yet, batch by batch."""
    from tqdm import tqdm

    from zipeft.generation.answer_file import AnswerFile
    from zipeft.generation.generator import batches

    locks.check(options.out.parent)  # before a model is loaded
    generator, origin = _text_generator(options)
    prompts = [generator.prompt(question) for question in questions]
    tokens, start = 0, time.perf_counter()
    with (
        AnswerFile(options.out, questions, origin) as answers,
        tqdm(total=len(questions), initial=len(answers.given), unit="answer", disable=None) as bar,
    ):
        there = len(answers.given)
        for number, batch in enumerate(batches([prompt.ids for prompt in prompts], options.batch_size)):
            asked = [index for index in batch if answers.lacks(questions[index])]
            if not asked:
                continue
            # All of the batch, whatever of it is there: with others beside it, other tokens would be drawn.
            answered = dict(zip(batch, generator.answer([prompts[index] for index in batch], number), strict=True))
            answers.add([(questions[index], generator.text(answered[index]), len(answered[index])) for index in asked])
            tokens += sum(map(len, answered.values()))
            bar.update(len(asked))
    print(f"{counted(len(questions), 'answer')} in {options.out}, {there} of them from before", file=sys.stderr)
    if tokens:
        _tell(tokens, time.perf_counter() - start)


def _tell(tokens: int, seconds: float) -> None:
    print(f"{counted(tokens, 'token')}, {tokens / max(seconds, 1e-9):.1f} tokens/s", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
