"""AdaLoRA (arXiv 2303.10512), by the peft library: LoRA whose ranks move between layers while it trains."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from zipeft.api.method import HEAD_SPACE, Method, require_size
from zipeft.api.search import Range, Space
from zipeft.api.training_callback import TrainingCallback
from zipeft.errors import UserError, require
from zipeft.methods.lora import MOST_ALPHA

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zipeft.api.backbone import Backbone


@dataclass(frozen=True)
class AdaLoRA(Method):
    """AdaLoRA by the peft library: LoRA whose ranks move to the layers that need them (arXiv 2303.10512).

    Updates are P E Q with a diagonal E (the paper's equation 3), and of E the least important numbers are set to zero:
    none before ``warmup``, then ever more, and for the last part of the steps, ``final``, all but ``rank`` for each
    layer on average. A saved adapter has all sizes, and zeros. An epoch that is selected before the last part has more
    rank than that.
    """

    learning_rate: float = 1e-3
    rank: int = 8
    initial_rank: int = 12
    alpha: int = 16
    dropout: float = 0.0
    warmup: float = 0.1
    """The part of the steps before the first number is set to zero."""
    final: float = 0.3
    """The part of the steps in which ranks stay where they are."""
    interval: int = 1
    """Steps between two in which ranks move."""
    orthogonality: float = 0.5
    """How much the loss has of the distance of P and Q from orthogonal matrices."""
    targets: tuple[str, ...] = ()
    """Names of the linear layers to adapt; empty takes those that the backbone names."""

    family: ClassVar[str] = "low-rank"
    by_default: ClassVar[bool] = False
    starts_at_frozen_model: ClassVar[bool] = True
    space: ClassVar[Space] = {"learning_rate": Range(3e-4, 1e-2), **HEAD_SPACE}

    called: ClassVar[str] = "adalora"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_size("rank", self.rank)
        require_size("initial_rank", self.initial_rank)
        require_size("interval", self.interval)
        require(self.rank < self.initial_rank, "initial_rank must be above rank")
        require(1 <= self.alpha <= MOST_ALPHA, f"alpha must be from 1 to {MOST_ALPHA:,}")
        require(0 <= self.dropout < 1, "dropout must be at least 0 and below 1")
        require(self.warmup >= 0, "warmup must be 0 or more")
        require(self.final >= 0, "final must be 0 or more")
        require(self.warmup + self.final < 1, "warmup and final must leave a part of the steps between them")
        require(self.orthogonality >= 0, "orthogonality must be 0 or more")

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        """Raises ``UserError`` for layers that are not there or are not linear, and for quantised weights."""
        from zipeft.methods.injected import linear_targets
        from zipeft.modules.injected_layers import inject

        if backbone.is_quantised:
            raise UserError(f"adalora does not adapt {backbone.dtype} layers: take dtype=bf16, or lora")
        try:
            layers = linear_targets(model, self.targets or backbone.lora_targets, self.called)
            inject(model, self.config(1_000_000, layers))  # how many steps there are is known in training alone
        except UserError as error:
            raise UserError(f"adalora: {error}") from error

    def config(self, steps: int, layers: list[str] | None = None) -> Any:
        """Return peft's configuration of the method for a training of so many steps, on layers of these names."""
        from peft import AdaLoraConfig

        final = min(int(self.final * steps), max(0, steps - 2))  # something is known of importance by then
        return AdaLoraConfig(
            target_r=self.rank,
            init_r=self.initial_rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            tinit=int(self.warmup * steps),
            tfinal=final,
            deltaT=self.interval,
            total_step=steps,
            orth_reg_weight=self.orthogonality,
            target_modules=layers,
        )

    def callback(self, model: nn.Module, steps: int) -> TrainingCallback:
        return RankAllocation(model, self.config(steps))


class RankAllocation(TrainingCallback):
    """Keeps P and Q of a model's layers near orthogonal matrices, and moves ranks among them, as peft does."""

    def __init__(self, model: nn.Module, config: Any) -> None:
        from peft.tuners.adalora.layer import RankAllocator

        from zipeft.modules.injected_layers import ADAPTER

        self.model, self.config, self.adapter = model, config, ADAPTER
        self.settled = False
        self.allocator = RankAllocator(model, config, ADAPTER)

    def penalty(self) -> Tensor:
        """Return the mean over all P and Q of the norms of P'P - I and QQ' - I, times its weight: as in peft, where
        the paper's equation 4 has the sum of squares."""
        import torch

        distances = []
        for name, factor in self.model.named_parameters():
            if ".lora_A." in name or ".lora_B." in name:
                product = factor @ factor.T if ".lora_A." in name else factor.T @ factor
                distances.append(torch.linalg.norm(product - torch.eye(len(product), device=product.device)))
        return self.config.orth_reg_weight * torch.stack(distances).mean()

    def step_taken(self, step: int) -> None:
        from peft import AdaLoraModel

        last = self.config.total_step - self.config.tfinal
        if last < 2:
            return  # of one step no importance can be told
        if step >= last and not self.settled:  # later only if fp16 skipped that step
            step, self.settled = last, True
        tuner: Any = SimpleNamespace(  # what the tuner that was taken apart at the injection would have
            model=self.model,
            peft_config={self.adapter: self.config},
            trainable_adapter_name=self.adapter,
            rankallocator=self.allocator,
        )
        AdaLoraModel.update_and_allocate(tuner, step)

    def state_dict(self) -> dict[str, Any]:
        """Return the moving averages of sensitivity and uncertainty, by parameter, and which ranks are left."""
        return {
            "sensitivity": self.allocator.exp_avg_ipt,
            "uncertainty": self.allocator.exp_avg_unc,
            "ranks": self.config.rank_pattern or {},
            "settled": self.settled,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        import torch

        device = {name: parameter.device for name, parameter in self.model.named_parameters()}
        to_device = {
            kind: {name: tensor.to(device[name]) for name, tensor in state[kind].items()}
            for kind in ("sensitivity", "uncertainty")
        }
        self.allocator.exp_avg_ipt = to_device["sensitivity"]
        self.allocator.exp_avg_unc = to_device["uncertainty"]
        # peft makes averages for those parameters of which it keeps the last sensitivity.
        self.allocator.ipt = {name: torch.zeros_like(each) for name, each in to_device["sensitivity"].items()}
        self.config.rank_pattern, self.settled = state["ranks"] or None, state["settled"]
