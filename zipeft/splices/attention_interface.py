"""What of transformers' attention interface a splice uses: a kernel of its own, for the layers that it joins alone."""

from __future__ import annotations

import abc
import sys
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from zipeft.api.splice import AttentionLayer, AttentionSplice

PREFIX = "zipeft_"


class InterfaceSplice(AttentionSplice):
    """Reaches attention of ``transformers`` between the rotary embedding and the output projection.

    A function registered as ``zipeft_<kernel>`` takes the place of the model's kernel (sdpa, eager, flash) and hands
    queries, keys and values to ``attend``.
    """

    def install(self) -> None:
        self.attention.config = _JoinedConfig(self.attention.config)
        # To ask for the name registers the kernel: within a compiled graph it would compile twice.
        _ = self.attention.config._attn_implementation

    def remove(self) -> None:
        self.attention.config = self.attention.config.config

    @abc.abstractmethod
    def attend(
        self, kernel: str, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Return the layer's result (batch, queries, heads, head dim) and its attention weights, if the kernel has any.

        Args:
            kernel: the name of the model's own kernel.
            query: (batch, heads, queries, head dim).
            key, value: (batch, key-value heads, keys, head dim).
            mask: what the kernel takes, or None.
            options: of the kernel.
        """

    def run(self, kernel: str, *inputs: Tensor | None, **options: Any) -> tuple[Tensor, Tensor | None]:
        """Call the model's own kernel."""
        return _kernel(self.attention, kernel)(self.attention, *inputs, **options)


def dispatches(module: nn.Module) -> bool:
    """Whether a module may go through the interface: that its code does so for attention does not make it one."""
    code = sys.modules.get(type(module).__module__)
    return hasattr(code, "ALL_ATTENTION_FUNCTIONS") and hasattr(getattr(module, "config", None), "_attn_implementation")


class _JoinedConfig:
    """What one joined layer sees of the model's config: all of it, with the kernel's spliced form in its place.

    The config itself stays as it is, for other models and layers may share it, masks are made by it, and the model's
    kernel may be changed in it at any time.
    """

    def __init__(self, config: Any) -> None:
        self.config = config

    def __getattr__(self, name: str) -> object:
        if name == "config":  # not there yet, while a copy is made
            raise AttributeError(name)
        return getattr(self.config, name)

    @property
    def _attn_implementation(self) -> str:
        return _register(self.config._attn_implementation or "eager")


def _register(kernel: str) -> str:
    """Register the spliced form of a kernel and return its name."""
    from transformers import AttentionInterface

    if PREFIX + kernel in AttentionInterface._global_mapping:
        return PREFIX + kernel

    def spliced(
        module: AttentionLayer,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None = None,  # SAM gives it by its name
        **options: Any,
    ) -> tuple[Tensor, Tensor | None]:
        inputs = query, key, value, attention_mask
        splice = getattr(module, "zipeft_splice", None)
        if splice is None:
            return _kernel(module, kernel)(module, *inputs, **options)
        return splice.attend(kernel, *inputs, **options)

    AttentionInterface.register(PREFIX + kernel, spliced)
    return PREFIX + kernel


def _kernel(module: AttentionLayer, name: str) -> Callable[..., Any]:
    code = sys.modules[type(module).__module__]
    return code.eager_attention_forward if name == "eager" else code.ALL_ATTENTION_FUNCTIONS[name]
