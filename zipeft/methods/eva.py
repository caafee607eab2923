"""EVA (arXiv 2410.07170): LoRA, by the peft library, that starts from what its layers are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from zipeft.api.method import require_size
from zipeft.errors import UserError
from zipeft.methods.lora import LoRA

if TYPE_CHECKING:
    from torch import nn

    from zipeft.api.backbone import Backbone
    from zipeft.api.training_sample import TrainingSample


@dataclass(frozen=True)
class EVA(LoRA):
    """EVA: LoRA that starts from the main directions of what its layers are given (arXiv 2410.07170).

    A layer's down projection starts at the right singular vectors of what training examples give to the layer, and the
    up projection at zero. Every layer keeps its rank (the paper's rho is 1): a saved adapter has the sizes of its
    settings. The directions are exact for the examples; peft's own start goes round them until directions settle.
    """

    examples: int = 64
    """How many training examples it looks at."""

    by_default: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_size("examples", self.examples)

    def sample_size(self) -> int:
        return self.examples

    def initialise(self, backbone: Backbone, model: nn.Module, sample: TrainingSample) -> None:
        """Raises ``UserError`` for more ranks than a layer has inputs."""
        import torch
        from peft.tuners.lora import LoraLayer

        from zipeft.modules.injected_layers import ADAPTER
        from zipeft.modules.main_directions import main_directions

        layers: dict[str, Any] = {name: part for name, part in model.named_modules() if isinstance(part, LoraLayer)}
        narrowest = min(layer.in_features for layer in layers.values())
        if self.rank > narrowest:
            raise UserError(f"eva: a layer has {narrowest} inputs, and no more directions: lower eva.rank")

        def run() -> None:
            for batch in sample:
                sample.outputs(batch)

        found = main_directions(layers, run, self.rank)
        with torch.no_grad():
            for name, layer in layers.items():
                layer.lora_A[ADAPTER].weight.copy_(found[name])
