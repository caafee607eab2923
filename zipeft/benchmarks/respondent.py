"""A vision-language model that answers the questions of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from zipeft.generation.generator import Prompt, TextGenerator, batches
from zipeft.generation.questions import Question
from zipeft.objectives.options import Answer, Choice, Options
from zipeft.vqa.question import VisualQuestion
from zipeft.vqa.windows import prompt_ids, windows_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zipeft.api.data import Picture
    from zipeft.api.language_backbone import VisionLanguageBackbone


@dataclass(frozen=True)
class Respondent:
    """A backbone with its model, perhaps with an adapter, in evaluation mode on its device.

    Args:
        batch_size: questions that go through the model at once.
        max_new_tokens: of a written answer.
        sampling: options of ``generate`` of transformers; empty for the likeliest token each time.
        images: what the model has been shown so far, by the names of pictures.
    """

    backbone: VisionLanguageBackbone
    model: nn.Module
    batch_size: int = 16
    max_new_tokens: int = 8
    sampling: Mapping[str, Any] = field(default_factory=dict)
    images: dict[str, dict[str, Tensor]] = field(default_factory=dict, repr=False)

    def choices(self, questions: Sequence[VisualQuestion], letters: bool) -> list[Choice]:
        """Return the likeliest option of each question, with the answer that the model writes.

        ``letters`` says how a question is put, as in ``zipeft.vqa.windows``, by which a task does it in training.
        Raises ``UserError`` for a question that is too long, and for a broken image.
        """
        import torch
        from accelerate.utils import send_to_device
        from tqdm import tqdm

        windows = windows_of(self.backbone, letters, self.backbone.max_length())
        inputs = []
        for question in tqdm(questions, desc="images", disable=None, leave=False):
            (window,) = windows(question._replace(picture=None), Answer(0, question.options))
            inputs.append(window.inputs | self._shown(question.picture))
        objective, device = Options(self.max_new_tokens, letters), next(self.model.parameters()).device
        found: dict[int, Choice] = {}
        with torch.no_grad(), tqdm(total=len(inputs), desc="likelihoods", disable=None, leave=False) as bar:
            for batch in batches([each["input_ids"] for each in inputs], self.batch_size):
                collated = send_to_device(self.backbone.collate([inputs[index] for index in batch]), device)
                ranked = objective.predict(objective.read(self.backbone, self.model, collated))
                found.update(zip(batch, ranked, strict=True))
                bar.update(len(batch))
        written = self.written(questions, letters)
        return [replace(found[index], written=text) for index, text in enumerate(written)]

    def written(self, questions: Sequence[VisualQuestion], letters: bool = False) -> list[str]:
        """Return what the model writes to each question, without thoughts and white space around it.

        Raises ``UserError`` as ``choices``.
        """
        import torch
        from tqdm import tqdm

        writer = TextGenerator(self.backbone, self.model, "", self.max_new_tokens, self.sampling)
        prompts = [self._prompt(writer, question, letters) for question in questions]
        found: dict[int, str] = {}
        with torch.no_grad(), tqdm(total=len(prompts), desc="answers", disable=None, leave=False) as bar:
            for number, batch in enumerate(batches([prompt.ids for prompt in prompts], self.batch_size)):
                answers = writer.answer([prompts[index] for index in batch], number)
                found.update((index, writer.text(ids)) for index, ids in zip(batch, answers, strict=True))
                bar.update(len(batch))
        return [found[index] for index in range(len(prompts))]

    def _prompt(self, writer: TextGenerator, question: VisualQuestion, letters: bool) -> Prompt:
        ids, asking = prompt_ids(self.backbone.tokenizer(), question, letters)
        writer.fitting(ids, Question(0, question.question, place=question.name))
        return Prompt(ids, {"question": asking, **self._shown(question.picture)})

    def _shown(self, picture: Picture | None) -> dict[str, Tensor]:
        """Return what the model is shown of a picture, which is read once: a benchmark asks of it again and again."""
        name = picture.name if picture else ""
        if name not in self.images:
            self.images[name] = self.backbone.image_inputs(picture)
        return self.images[name]
