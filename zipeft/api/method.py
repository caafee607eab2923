"""What a method plug-in provides: a change to a frozen model that says which parameters train.

Plug-ins are named in the entry-point group ``zipeft.methods``. This module imports no torch, and a plug-in
should import its heavy libraries inside its methods, so that ``zipeft ls`` stays instant.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from zipeft.api.search import Range, Space
from zipeft.errors import UserError, require

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

    from zipeft.api.backbone import Backbone
    from zipeft.api.objective import Objective
    from zipeft.api.training_callback import TrainingCallback
    from zipeft.api.training_sample import TrainingSample


HEAD_SPACE: Space = {"head_learning_rate": Range(2e-3, 5e-2)}
"""The head is the same for every method, and so is the range in which its learning rate is searched."""

LARGEST = 10_000
"""No prompt is longer than this, and no bottleneck wider: it would fill any memory, and learn no more."""


def require_size(name: str, value: int) -> None:
    """Raise ``ValueError`` for a length, width or rank that is none, or that nobody can mean."""
    require(value >= 1, f"{name} must be 1 or more")
    require(value <= LARGEST, f"{name} must be {LARGEST:,} or less")


def require_float32(parameters: Iterable[nn.Parameter]) -> None:
    """Let parameters train, in place: in float32, whatever their model computes in.

    Small updates of a half-precision parameter would be rounded away.
    """
    for parameter in parameters:
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)


@dataclass(frozen=True)
class Method(abc.ABC):
    """A way of fine-tuning. An instance's fields are its settings; the head trains beside it in any case.

    The contract, which ``tests/methods`` holds every registered method to:

    - ``apply`` changes the model in place and sets ``requires_grad`` of what trains, which a step then changes, and
      nothing else. What it inserts are submodules of the model: their parameters are found by ``named_parameters``.
    - What trains is float32 whatever the model's dtype: ``require_float32`` makes it so.
    - ``starts_at_frozen_model`` says whether the model computes before its first step what it did without the method.
    - ``space`` is what the method publishes of itself for a search: in which range each setting makes sense.
    - The same seed gives the same numbers.
    - What it wants to know of training data before the first step it is shown in ``initialise``, and nowhere else.

    The first line of a subclass's docstring is its description in ``zipeft ls``.
    """

    learning_rate: float = 1e-3
    """Peak learning rate of the method's own parameters."""

    head_learning_rate: float = 1e-2
    """Peak learning rate of the head."""

    weight_decay: float = 1e-4

    modalities: ClassVar[tuple[str, ...]] = ("image", "text", "instruction", "image-text")
    """The kinds of backbone that the method goes with; what goes with a language model goes with one that is shown
    images ("image-instruction") too."""

    image_entry: ClassVar[str] = "tokens"
    """How an image enters a language model: as learnt "tokens" in front of the text, as the "condition" that is added
    to gated prompts, as one of those of the lowest layer alone ("early"), or not at all ("none"). Wherever it enters, a
    projection of its features is learnt."""

    hides_question: ClassVar[bool] = False
    """Whether the model is not shown the tokens that ask, to tell what an image says by itself."""

    family: ClassVar[str] = "other"
    """What kind of method it is, by which ``zipeft ls methods`` lists them."""

    by_default: ClassVar[bool] = True
    """Whether it is among "all" methods, and in a comparison that names none; others are asked for by name."""

    starts_at_frozen_model: ClassVar[bool] = False
    """Whether the model's outputs are bit for bit those of the frozen model until the first step."""

    space: ClassVar[Space] = {"learning_rate": Range(1e-4, 1e-1), **HEAD_SPACE}

    def __post_init__(self) -> None:
        require(self.learning_rate > 0, "learning_rate must be above 0")
        require(self.head_learning_rate > 0, "head_learning_rate must be above 0")
        require(self.weight_decay >= 0, "weight_decay must be 0 or more")

    def learning_rate_of(self, parameter: str) -> float:
        """Return the peak learning rate of one of the method's parameters, by its name in the learner: that of all,
        unless a method tells them apart."""
        return self.learning_rate

    def objective(self, objective: Objective) -> Objective:
        """Return a data set's objective as the method has it: the same, but for methods with a head of their own."""
        return objective

    @classmethod
    def goes_with(cls, modality: str) -> bool:
        """Whether the method goes with a kind of backbone."""
        return modality in cls.modalities or (modality == "image-instruction" and "instruction" in cls.modalities)

    def adapt(self, backbone: Backbone, model: nn.Module) -> None:
        """Change ``model`` in place: ``apply``, and let images enter where the backbone shows them."""
        from zipeft.api.language_backbone import VisionLanguageBackbone

        with backbone.autocast(model):  # some run a layer to see what it does
            self.apply(backbone, model)
        if isinstance(backbone, VisionLanguageBackbone):
            backbone.admit_images(model, self.image_entry, self.hides_question)

    def sample_size(self) -> int:
        """Return how many training examples ``initialise`` is to see; 0 for none, and it is not called."""
        return 0

    def initialise(self, backbone: Backbone, model: nn.Module, sample: TrainingSample) -> None:  # noqa: B027
        """Change, in place, the values that training starts from, by what some training examples show.

        It is called once a run, on the model that ``adapt`` has changed, in evaluation mode, before the first step; a
        run that goes on from a checkpoint calls it again. It may change the values of what trains, and of buffers that
        ``zipeft.modules.held_tensors.hold`` has made: nothing else is saved. Shapes have to be decided by then: an
        adapter that is loaded, and a prediction of costs, do without this. Those of a ``SizedByData`` module may
        shrink. What it draws of PyTorch's random numbers repeats with the seed.
        """

    def callback(self, model: nn.Module, steps: int) -> TrainingCallback:
        """Return what the method does beside the steps of a training of so many on a model that it has changed: by
        default nothing. What a training decides as it goes on (averages, counts) is kept there."""
        from zipeft.api.training_callback import TrainingCallback

        return TrainingCallback()

    @abc.abstractmethod
    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        """Change ``model`` in place. It arrives with every parameter frozen; what is to train has
        ``requires_grad`` set when this returns. Trainable parameters are float32 whatever the model's dtype."""


FORMS: dict[str, dict[str, Any]] = {"blind": {"image_entry": "none"}, "unasked": {"hides_question": True}}
"""Forms of a method on a vision-language model, by which it can be told what the image, or the question, is worth:
what the class of each has otherwise."""


@cache
def form_of(method: type[Method], form: str) -> type[Method]:
    """Return the class of one of a method's ``FORMS``.

    Raises ``UserError`` for a method that no image enters, or that goes with no vision-language model.
    """
    if method.image_entry == "none" or not method.goes_with("image-instruction"):
        raise UserError(f"{method.__name__} has no form {form}: no image enters it")
    words = {"blind": "without the image", "unasked": "without the question"}[form]
    first, _, _ = (method.__doc__ or method.__name__).partition("\n")
    content = {"__doc__": f"{first.rstrip('.')}; {words}.", "__module__": method.__module__}
    own = {"modalities": ("image-instruction",), **FORMS[form]}
    return type(f"{method.__name__}{form.capitalize()}", (method,), content | own)
