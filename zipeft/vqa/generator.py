"""A vision-language model that answers: questions put as in training, with an image or without, and options ranked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from zipeft.errors import UserError
from zipeft.generation.generator import Prompt, TextGenerator
from zipeft.images.reading import BrokenImage
from zipeft.objectives.options import LETTERS, Answer
from zipeft.vqa.question import VisualQuestion, picture_of
from zipeft.vqa.windows import prompt_ids, windows_of

if TYPE_CHECKING:
    from torch import Tensor

    from zipeft.api.data import Picture
    from zipeft.api.language_backbone import VisionLanguageBackbone
    from zipeft.generation.questions import Question

BY_WORDS, BY_LETTERS = "words", "letters"
"""What stands for a template: whether an option is answered by its words, or by its letter."""


@dataclass(frozen=True)
class VisualGenerator(TextGenerator):
    """A vision-language model with what decides how it answers.

    ``template`` says how its task puts questions: "words" or "letters". ``blind`` is "" for a model that images enter.
    """

    backbone: VisionLanguageBackbone

    def prompt(self, question: Question) -> Prompt:
        """Return a question as the model was asked in training.

        Raises ``UserError`` that names the question: for an image that is broken or that the model is not shown, for a
        question without options where these are a part of it, and where the longest answer would not fit.
        """
        self.check_image(question)
        asked = self._asked(question)
        ids, asking = prompt_ids(self.backbone.tokenizer(), asked, self._by_letters)
        self.fitting(ids, question)
        return Prompt(ids, {"question": asking, **self._image(asked.picture, question)})

    @torch.no_grad()
    def likelihoods(self, question: Question) -> Mapping[str, float]:
        """Return the likelihood of each of a question's options, of all options together: they add up to 1.

        Options are compared as the task's accuracy does, by the likelihood of all their tokens. Raises ``UserError``
        as ``prompt``.
        """
        if not question.options:
            return {}
        self.check_image(question)
        asked = self._asked(question)
        self._image(asked.picture, question)  # names the question where it is broken
        windows = windows_of(self.backbone, self._by_letters, self.backbone.max_length())
        (window,) = windows(asked, Answer(0, asked.options))
        device = next(self.model.parameters()).device
        inputs = {name: value.to(device) for name, value in self.backbone.collate([window.inputs]).items()}
        found = self.backbone.option_log_probs(self.model, inputs)[0].double().softmax(0)
        return dict(zip(asked.options, found.tolist(), strict=True))

    @property
    def _by_letters(self) -> bool:
        return self.template == BY_LETTERS

    def _asked(self, question: Question) -> VisualQuestion:
        if self._by_letters and not 2 <= len(question.options) <= len(LETTERS):
            raise UserError(
                f"{question.place} has {len(question.options) or 'no'} options, of which the model was trained to name "
                f"the letter: give 2 to {len(LETTERS)}, as by --options 'yes|no'"
            )
        picture = picture_of(question.image_path, str(question.image_path)) if question.image else None
        return VisualQuestion(question.instruction, question.options, picture, question.input, question.place)

    def _image(self, picture: Picture | None, question: Question) -> dict[str, Tensor]:
        try:
            return self.backbone.image_inputs(picture)
        except BrokenImage as error:
            reason = f"{error.path} does not decode ({error.reason})"
            raise UserError(f"{question.place} has a broken image: {reason}; give another file") from error
