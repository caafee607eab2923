"""What every format of LLaMA-Adapter's prompts holds, apart from any model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
from torch import Tensor, nn

from zipeft import splices
from zipeft.api.backbone import Backbone
from zipeft.api.learner import Learner
from zipeft.errors import UserError
from zipeft.formatting import counted
from zipeft.methods.zero_gated import ZeroGated
from zipeft.modules.gated_attention import GATE_ACTIVATIONS


@dataclass(frozen=True)
class GatedPrompts:
    """The zero-gated prompts of the top layers of a model (arXiv 2303.16199, section 3).

    Args:
        prompts: (layers, length, width), float32, lowest layer first.
        gates: (layers, heads), or (layers, 1) for one gate a layer.
        gate_activation: what the model applies to a gate, "tanh" or "none".
        depth: how many layers the model has, those without a prompt included.
        made_for: the model's name, or "" where it is not known.
    """

    prompts: Tensor
    gates: Tensor
    gate_activation: str
    depth: int
    made_for: str = ""

    @classmethod
    def of(cls, learner: Learner, made_for: str = "") -> GatedPrompts:
        """Take the prompts of a learner. Raises ``UserError`` if it has none, or if anything else has been learnt."""
        joined = splices.gated_prompts(learner.model)
        known = {id(parameter) for prompt in joined for parameter in prompt.parameters()}
        others = [name for name, parameter in learner.trainable().items() if id(parameter) not in known]
        if others or not joined:
            learnt = f"{others[0]} was learnt" if others else "it has none"
            raise UserError(f"only gated prompts, without a head, have a form in other formats: {learnt}")
        if not all(prompt.is_plain for prompt in joined):
            raise UserError("only plain prompts, with a gate a head or a layer, have a form in other formats")
        blocks = learner.backbone.blocks(learner.model)
        if len({len(prompt.prompt) for prompt in joined}) > 1 or not splices.gated_prompts(blocks[-len(joined)]):
            raise UserError("only prompts of one length, in the topmost layers, have a form in other formats")
        return cls(
            torch.stack([prompt.prompt.detach().cpu() for prompt in joined]),
            torch.stack([prompt.gate.detach().cpu() for prompt in joined]),
            joined[0].gate_activation,
            len(blocks),
            made_for,
        )

    def activated(self) -> GatedPrompts:
        """Return prompts that do the same with nothing to apply to the gates: each is what was made of it before."""
        return replace(self, gates=GATE_ACTIVATIONS[self.gate_activation](self.gates), gate_activation="none")

    def method(self) -> ZeroGated:
        """Return the method that joins such prompts to a model."""
        layers, length, _ = self.prompts.shape
        gate: Literal["layer", "head"] = "layer" if self.gates.shape[1] == 1 else "head"
        activation = cast('Literal["tanh", "none"]', self.gate_activation)  # the prompts refuse any other
        return ZeroGated(length=length, layers=layers, gate=gate, gate_activation=activation)

    def join(self, backbone: Backbone, model: nn.Module) -> None:
        """Join the prompts to a frozen model. Raises ``UserError`` if they were made for one of other sizes."""
        ours = len(backbone.blocks(model))
        _check_size("layers", self.depth, ours)
        self.method().apply(backbone, model)
        joined = splices.gated_prompts(model)
        _check_size("hidden width", self.prompts.shape[2], joined[0].prompt.shape[1])
        _check_size("heads", self.gates.shape[1], joined[0].gate.shape[0])
        with torch.no_grad():
            for module, prompt, gate in zip(joined, self.prompts, self.gates, strict=True):
                module.prompt.copy_(prompt)
                module.gate.copy_(gate)

    def __str__(self) -> str:
        layers, length, _ = self.prompts.shape
        gates = "one gate a layer" if self.gates.shape[1] == 1 else "one gate a head"
        tanh = "tanh" if self.gate_activation == "tanh" else "no tanh"
        return f"{counted(length, 'token')} in each of the top {layers} of {self.depth} layers, {gates}, {tanh}"


def _check_size(what: str, theirs: int, ours: int) -> None:
    if theirs != ours:
        raise UserError(f"the prompts were made for a model of {what} {theirs}; that of the backbone is {ours}")
