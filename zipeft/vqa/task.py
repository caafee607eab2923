"""What tasks of questions on images share: their settings, how a question is put, and how it is answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zipeft.api.data import Window
from zipeft.api.showcase import Showcase
from zipeft.api.task import Task
from zipeft.errors import UserError, require
from zipeft.objectives.options import Answer, Options
from zipeft.sources.splits import check_seed

if TYPE_CHECKING:
    from zipeft.api.data import Split
    from zipeft.api.language_backbone import VisionLanguageBackbone
    from zipeft.vqa.question import VisualQuestion


@dataclass(frozen=True)
class VQATask(Task):
    """Questions on images with options, of which a vision-language model learns the right ones.

    A raw example is a ``VisualQuestion``, its target an ``Answer``.
    """

    max_length: int = 512
    """Tokens of a question with all its options."""

    max_new_tokens: int = 8
    """Tokens of the longest answer that a model writes to a test question; 0 asks for none."""

    skip_broken: bool = False
    """Leave out and count questions whose image does not decode, or that are broken themselves; else they are refused.
    """

    train_examples: int = 0
    """Train on so many questions, chosen with ``split_seed``; 0 for all. The same below."""

    validation_examples: int = 0

    test_examples: int = 0

    split_seed: int = 0
    """Seeds the splits that the data lack, and the questions that are chosen."""

    modality: ClassVar[str] = "image-instruction"

    letters: ClassVar[bool] = False
    """Whether a question is put with its options, and answered by a letter, or by an option's own words."""

    groups: ClassVar[tuple[str, ...]] = ()
    """The groups of questions (``Answer.groups``) in the order in which a page has them; others come behind."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.max_length >= 8, f"max_length is {self.max_length}: give 8 tokens or more")
        require(self.max_new_tokens >= 0, f"max_new_tokens is {self.max_new_tokens}: give 1 or more, or 0 for none")
        for split, count in self.limits().items():
            require(count >= 0, f"{split}_examples is {count}: give 1 or more, or 0 for all")
        check_seed(self.split_seed)

    def limits(self) -> dict[str, int]:
        """Return how many questions of each split to take, 0 for all."""
        return {name: getattr(self, f"{name}_examples") for name in ("train", "validation", "test")}

    def objective(self, dataset: str, classes: Sequence[str]) -> Options:
        return Options(self.max_new_tokens, self.letters, self.groups)

    def closed_options(self, dataset: str) -> Sequence[Sequence[str]]:
        """Return the sets of options that many of a data set's questions share, which are offered to who asks more."""
        return ()

    def showcase(self, dataset: str, test: Split) -> Showcase:
        from zipeft.vqa.showcase import shown_of

        return Showcase(self.credit(dataset), shown_of(test))

    def windows(self, backbone: VisionLanguageBackbone) -> Callable[[VisualQuestion, Answer], Sequence[Window]]:
        """Return the function from a question and its answer to its one window."""
        from zipeft.vqa.windows import windows_of

        if self.max_length + self.max_new_tokens > (limit := backbone.max_length()):
            raise UserError(
                f"max_length {self.max_length} and max_new_tokens {self.max_new_tokens} are more than the {limit} "
                "tokens that the backbone takes: lower one of them"
            )
        return windows_of(backbone, self.letters, self.max_length)
