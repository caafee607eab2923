"""One frozen model for all runs: each trains a copy that shares the frozen tensors, and changes none of them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from zipeft.modules.weights_dtype import alias


class FrozenModel:
    """A model on its device that runs start from. It is in memory once, however many runs there are.

    ``copy`` gives a run modules, hooks and buffers of its own, and parameters that are new objects on the same storage:
    what a method sets ``requires_grad`` of is then the run's own matter. Once the method has been applied, ``part``
    gives storage of its own to whatever trains. All else is read by all runs, and ``changed`` says whether a run has
    written into it after all.
    """

    def __init__(self, model: nn.Module) -> None:
        """Take a model, as ``Backbone.load`` returns it, for its own."""
        self.model = model
        self._sums = self._sum_all()

    def copy(self) -> nn.Module:
        """Return a copy, of which nothing trains; parameters that are tied in the model are tied in the copy."""
        return copy.deepcopy(self.model, {id(p): alias(p) for p in self.model.parameters()})

    @torch.no_grad()
    def part(self, module: nn.Module) -> None:
        """Give the parameters of a copy that train storage of their own, where it is still the frozen model's."""
        shared = storages(self.model)
        for parameter in module.parameters():
            if parameter.requires_grad and _address(parameter) in shared:
                parameter.data = parameter.data.clone()

    def changed(self) -> str:
        """Return the name of a parameter whose storage was written to since this object was made; "" if none was."""
        sums = self._sum_all()
        return next((name for name, total in self._sums.items() if sums[name] != total), "")

    def _sum_all(self) -> dict[str, int]:
        """Return a sum of the bits of each parameter's storage, which nothing can write to unseen, not even
        ``parameter.data`` in place, of which PyTorch's own counters of versions know nothing."""
        parameters = {name: p for name, p in self.model.named_parameters() if not p.is_meta}
        sums = [_sum_of_bits(parameter) for parameter in parameters.values()]
        return dict(zip(parameters, torch.stack(sums).tolist() if sums else [], strict=True))


def storages(module: nn.Module) -> dict[int, int]:
    """Return the storages of a module's parameters: how many bytes each has, by its address."""
    return {_address(p): p.untyped_storage().nbytes() for p in module.parameters()}


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _sum_of_bits(parameter: Tensor) -> Tensor:
    """Return the sum of the words of a tensor's storage, with what overflows left out, and of its last few bytes."""
    storage = parameter.untyped_storage()
    data = torch.empty(0, dtype=torch.uint8, device=parameter.device).set_(storage)
    words = len(data) // 8 * 8
    return data[:words].view(torch.int64).sum() + data[words:].sum()
