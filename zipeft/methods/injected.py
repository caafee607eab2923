"""Methods of the peft library that change linear layers: the table at the end has a line for each of them.

LoRA itself has a file of its own, as its results are older than this table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, make_dataclass
from math import gcd
from typing import TYPE_CHECKING, Any, ClassVar

from zipeft.api.method import HEAD_SPACE, LARGEST, Method
from zipeft.api.search import Range, Space
from zipeft.errors import UserError, require

if TYPE_CHECKING:
    from torch import nn

    from zipeft.api.backbone import Backbone

QUANTISED = ("int8", "nf4")

Layers = Callable[["Injected", "Backbone", "nn.Module"], dict[str, list[str]]]
"""Returns the names of the layers that a method changes, by the field of peft's configuration that takes them."""


@dataclass(frozen=True)
class Injected(Method):
    """A method of the peft library, by the configuration that it has there (``peft_type``).

    A setting has the name that peft gives it, or the end of that name ("alpha" for "lora_alpha"); "rank" is peft's
    "r". ``fixed`` is what else of the configuration differs from peft's defaults.
    """

    targets: tuple[str, ...] = ()
    """Names, or ends of names, of the layers to change; empty takes those that LoRA adapts on the backbone."""

    by_default: ClassVar[bool] = False
    called: ClassVar[str]
    """The name under which it is registered, for messages."""
    peft_type: ClassVar[str]
    fixed: ClassVar[Mapping[str, Any]] = {}
    layers: ClassVar[Layers]
    sizes: ClassVar[Mapping[str, int]] = {}
    """Settings that must divide the sizes of all layers: where one is 0 it is the largest that does, up to this."""
    replaces: ClassVar[bool] = False
    """Whether it takes out of the weights what it starts from."""
    quantised: ClassVar[tuple[str, ...]] = QUANTISED
    """The dtypes of quantised weights that it goes with: it reads no weight, nor for nf4 the weight's shape."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.own_settings():
            value = getattr(self, name)
            if isinstance(value, int) and not isinstance(value, bool):
                least = 0 if name in self.sizes else 1
                require(value >= least, f"{name} must be {least} or more")
                require(value <= 100 * LARGEST, f"{name} must be {100 * LARGEST:,} or less")
            elif name == "dropout":
                require(0 <= value < 1, "dropout must be at least 0 and below 1")
            elif isinstance(value, float):
                require(value > 0, f"{name} must be above 0")

    @classmethod
    def own_settings(cls) -> list[str]:
        """Return the settings that peft's configuration takes."""
        return [name for name in cls.__dataclass_fields__ if name not in Injected.__dataclass_fields__]

    @classmethod
    def is_offered(cls) -> bool:
        """Whether the peft that is installed has the method."""
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

        return cls.peft_type in PEFT_TYPE_TO_CONFIG_MAPPING

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        """Raises ``UserError`` for layers that are not there or that the method does not go with, and for a peft that
        is too old."""
        from zipeft.modules.injected_layers import inject
        from zipeft.modules.projected_attention import targeted

        if not self.is_offered():
            raise UserError(f"{self.called} needs a newer peft than the one that is installed: pip install -U peft")
        if backbone.is_quantised and backbone.dtype not in self.quantised:
            raise UserError(f"{self.called} reads weights, and {backbone.dtype} ones are packed: take dtype=bf16")
        try:
            config = self.config(backbone, model)
            inject(model, config, list(targeted(model, list(config.target_modules))) if self.replaces else ())
        except UserError as error:
            raise UserError(f"{self.called}: {error}") from error

    def config(self, backbone: Backbone, model: nn.Module) -> Any:
        """Return peft's configuration of the method for a model. Raises ``UserError`` as ``apply``."""
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

        types: Mapping[Any, Any] = PEFT_TYPE_TO_CONFIG_MAPPING
        config = types[self.peft_type]
        names = config.__dataclass_fields__
        layers = type(self).layers(self, backbone, model)
        settings = {_peft_name(name, names): self._value(name, model, layers) for name in self.own_settings()}
        return config(**self.fixed, **settings, **layers)

    def _value(self, name: str, model: nn.Module, layers: Mapping[str, Sequence[str]]) -> Any:
        """Return a setting; one of ``sizes`` that is 0 as the largest divisor of all layers' sizes up to the most."""
        from zipeft.modules.projected_attention import targeted

        value = getattr(self, name)
        if value or name not in self.sizes:
            return value
        changed: list[Any] = list(targeted(model, layers["target_modules"]).values())
        common = gcd(*(size for layer in changed for size in (layer.in_features, layer.out_features)))
        return max(size for size in range(1, self.sizes[name] + 1) if common % size == 0)


def _peft_name(name: str, names: Mapping[str, Any]) -> str:
    """Return the name that a setting has in a configuration of peft."""
    if name == "rank":
        return "r"
    return name if name in names else next(each for each in names if each.endswith(f"_{name}"))


# --- layers -----------------------------------------------------------------------------------------------------------


def linear_layers(method: Injected, backbone: Backbone, model: nn.Module) -> dict[str, list[str]]:
    """Return the layers that LoRA adapts by default, or those of ``targets``. Raises ``UserError`` as
    ``linear_targets``."""
    return {"target_modules": linear_targets(model, method.targets or backbone.lora_targets, method.called)}


def linear_targets(model: nn.Module, targets: Sequence[str], called: str) -> list[str]:
    """Return the names of the layers that a method, registered as ``called``, is to change; projections of PyTorch's
    own attention become layers, in place.

    Raises: ``UserError`` for a target that is not there, or is no linear layer.
    """
    from torch import nn

    from zipeft.modules.projected_attention import project_attention, targeted

    targets = project_attention(model, targets)
    found = targeted(model, targets)
    if not found:
        raise UserError(f"the model has no layers {', '.join(targets)}: {_naming(called)}")
    for name, layer in found.items():
        if not isinstance(layer, nn.Linear):
            raise UserError(f"it changes linear layers, and {name} is none: {_naming(called)}")
    return targets


KEYS_AND_VALUES = ("k_proj", "v_proj", "key", "value", "qkv", "query_key_value", "c_attn")
"""What models call the projections of keys and values; a fused one is scaled as a whole, its queries too."""


def keys_values_and_feed_forward(method: Injected, backbone: Backbone, model: nn.Module) -> dict[str, list[str]]:
    """Return the layers of IA3 (arXiv 2205.05638): projections of keys and values, of which the outputs are scaled, and
    the last layer of each feed-forward, of which the inputs are: in any block its last linear layer is that.

    Raises: ``UserError`` as ``linear_layers``.
    """
    if method.targets:
        return linear_layers(method, backbone, model) | {"feedforward_modules": []}
    keys_and_values, feed_forward = [], []
    for tower in backbone.towers(model).values():
        for block in tower:
            layers = _linear(model, block)
            keys_and_values += [name for name in layers if name.rpartition(".")[2] in KEYS_AND_VALUES]
            feed_forward += layers[-1:]
    if not feed_forward:
        raise UserError(f"the model's blocks have no linear layers: {_naming(method.called)}")
    return {"target_modules": [*keys_and_values, *feed_forward], "feedforward_modules": feed_forward}


def norms(method: Injected, backbone: Backbone, model: nn.Module) -> dict[str, list[str]]:
    """Return the normalisation layers of the blocks. Raises ``UserError`` where there are none."""
    from zipeft.modules.projected_attention import targeted

    blocks = {id(part) for tower in backbone.towers(model).values() for block in tower for part in block.modules()}
    found = targeted(model, method.targets) if method.targets else dict(model.named_modules())
    names = [name for name, part in found.items() if id(part) in blocks and "norm" in type(part).__name__.lower()]
    if not names:
        raise UserError("the model's blocks have no normalisation layers of that name")
    return {"target_modules": names}


def _naming(called: str) -> str:
    return f"name linear layers with --set {called}.targets=q_proj,v_proj"


def _linear(model: nn.Module, block: nn.Module) -> list[str]:
    """Return the names of a block's linear layers, but for those of PyTorch's own attention, which calls none."""
    from torch import nn

    attention = [part for part in block.modules() if isinstance(part, nn.MultiheadAttention)]
    uncalled = {id(part) for each in attention for part in each.modules()}
    inside = {id(part) for part in block.modules()} - uncalled
    return [name for name, part in model.named_modules() if id(part) in inside and isinstance(part, nn.Linear)]


# --- the table --------------------------------------------------------------------------------------------------------

SMALL, MIDDLE, LARGE, HUGE = Range(3e-5, 1e-3), Range(3e-4, 1e-2), Range(1e-3, 3e-2), Range(1e-2, 3e-1)
"""Where learning rates are searched: of factors that start at the weights' own size, of matrices, of vectors that
multiply something, and of coefficients of which each changes the weights by little."""


def method(
    called: str,
    peft_type: str,
    summary: str,
    family: str,
    learning_rate: float,
    searched: Range,
    settings: Mapping[str, Any],
    *,
    fixed: Mapping[str, Any] | None = None,
    layers: Layers = linear_layers,
    sizes: Mapping[str, int] | None = None,
    exact: bool = True,
    replaces: bool = False,
    quantised: tuple[str, ...] = QUANTISED,
) -> type[Injected]:
    """Return the class of a method: a line of the table. ``exact`` says that it starts bit for bit at the frozen
    model, in float32; ``settings`` are its own with their defaults."""
    space: Space = {"learning_rate": searched, **HEAD_SPACE}
    content = {
        "__doc__": summary,
        "__module__": __name__,
        "called": called,
        "peft_type": peft_type,
        "family": family,
        "fixed": fixed or {},
        "layers": layers,
        "sizes": sizes or {},
        "replaces": replaces,
        "quantised": quantised,
        "starts_at_frozen_model": exact,
        "space": space,
    }
    fields = [("learning_rate", float, learning_rate), *((name, type(v), v) for name, v in settings.items())]
    return make_dataclass(called.title().replace("_", ""), fields, bases=(Injected,), namespace=content, frozen=True)


LORA = {"rank": 8, "alpha": 16, "dropout": 0.0}
LOW_RANK, SHARED, ORTHOGONAL, SPECTRAL = "low-rank", "shared projections", "orthogonal", "spectral"
SCALING, SPARSE, PRODUCT = "scaling", "selective", "products of matrices"

# fmt: off
Dora = method("dora", "LORA", "DoRA: LoRA of the weights' directions; their magnitudes train too (arXiv 2402.09353).",
    LOW_RANK, 1e-3, MIDDLE, LORA, fixed={"use_dora": True}, quantised=())
Rslora = method("rslora", "LORA", "rsLoRA: LoRA whose updates are divided by the root of the rank (arXiv 2312.03732).",
    LOW_RANK, 1e-3, MIDDLE, LORA, fixed={"use_rslora": True})
Pissa = method("pissa", "LORA", "PiSSA: LoRA that starts from the largest singular vectors (arXiv 2404.02948).",
    LOW_RANK, 3e-4, SMALL, LORA, fixed={"init_lora_weights": "pissa"}, exact=False, replaces=True, quantised=())
Olora = method("olora", "LORA", "OLoRA: LoRA that starts from a QR decomposition of the weights (arXiv 2406.01775).",
    LOW_RANK, 3e-4, SMALL, LORA, fixed={"init_lora_weights": "olora"}, exact=False, replaces=True, quantised=())
Gralora = method("gralora", "GRALORA", "GraLoRA: low-rank updates of each block of the weights (arXiv 2505.20355).",
    LOW_RANK, 1e-3, MIDDLE, {"rank": 32, "alpha": 64, "gralora_k": 2, "dropout": 0.0})
Delora = method("delora", "DELORA", "DeLoRA: low-rank updates whose length is learnt apart (arXiv 2503.18225).",
    LOW_RANK, 1e-3, MIDDLE, {"rank": 8, "delora_lambda": 15}, quantised=())
Miss = method("miss", "MISS", "MiSS: one small matrix, repeated along the inputs (arXiv 2409.15371).",
    LOW_RANK, 1e-3, MIDDLE, {"rank": 32})
Lily = method("lily", "LILY", "Lily: factors shared by layers, which a router mixes (arXiv 2407.09946).",
    LOW_RANK, 1e-3, MIDDLE, {"rank": 32, "num_B": 2})
Peanut = method("peanut", "PEANUT", "PEANuT: updates that a small network makes of the weights (arXiv 2410.01870).",
    LOW_RANK, 1e-3, MIDDLE, {"rank": 32}, quantised=())
Glora = method("glora", "GLORA", "GLoRA: weights and biases are scaled and shifted, with low rank (arXiv 2306.07967).",
    LOW_RANK, 1e-3, MIDDLE, {"rank": 8}, quantised=())
Deft = method("deft", "DEFT", "DEFT: learnt directions of the weights are replaced (as peft has it).",
    LOW_RANK, 1e-3, MIDDLE, {"rank": 8}, exact=False, quantised=())

Vera = method("vera", "VERA", "VeRA: scales of random projections that all layers share (arXiv 2310.11454).",
    SHARED, 1e-2, LARGE, {"rank": 256, "d_initial": 0.1, "dropout": 0.0})
Pvera = method("pvera", "PVERA", "PVeRA: VeRA whose scales are drawn, while training (arXiv 2512.07703).",
    SHARED, 1e-2, LARGE, {"rank": 256, "d_initial": 0.1, "dropout": 0.0})
Randlora = method("randlora", "RANDLORA", "RandLoRA: scaled sums of random low-rank bases (arXiv 2502.00987).",
    SHARED, 1e-3, MIDDLE, {"rank": 32, "alpha": 640, "dropout": 0.0})
Vblora = method("vblora", "VBLORA", "VB-LoRA: factors are mixed from one bank of vectors (arXiv 2405.15179).",
    SHARED, 1e-2, LARGE, {"rank": 4, "num_vectors": 256, "vector_length": 0, "topk": 2},
    sizes={"vector_length": 256}, exact=False)
Unilora = method("unilora", "UNILORA", "Uni-LoRA: all factors are spread from one vector (arXiv 2506.00799).",
    SHARED, 1e-2, LARGE, {"rank": 4, "theta_d_length": 256}, exact=False, quantised=())
Tinylora = method("tinylora", "TINYLORA", "TinyLoRA: a few numbers mix a layer's singular vectors (arXiv 2602.04118).",
    SHARED, 1e-2, LARGE, {"rank": 2, "u": 64}, quantised=())
Frod = method("frod", "FROD", "FRoD: scales in a basis that layers have in common (doi 10.1609/aaai.v40i31.39813).",
    SHARED, 1e-2, LARGE, {"sparse_rate": 0.01}, fixed={"progressbar": False}, exact=False, quantised=())

Oft = method("oft", "OFT", "OFT: inputs of layers are rotated in blocks (arXiv 2306.07280).",
    ORTHOGONAL, 1e-3, MIDDLE, {"oft_block_size": 32})
Boft = method("boft", "BOFT", "BOFT: weights are rotated by factors of a butterfly (arXiv 2311.06243).",
    ORTHOGONAL, 1e-3, MIDDLE, {"boft_block_size": 4, "boft_n_butterfly_factor": 1})
Hra = method("hra", "HRA", "HRA: weights are reflected a few times, by Householder's reflections (arXiv 2405.17484).",
    ORTHOGONAL, 1e-3, MIDDLE, {"rank": 8}, exact=False, quantised=())
Psoft = method("psoft", "PSOFT", "PSOFT: the weights' principal subspace is rotated (openreview FSHrinMArK).",
    ORTHOGONAL, 1e-3, MIDDLE, {"rank": 32, "alpha": 32}, quantised=())
Road = method("road", "ROAD", "RoAd: outputs of layers are rotated and scaled in pairs (arXiv 2409.00119).",
    ORTHOGONAL, 3e-3, LARGE, {"variant": "road_1", "group_size": 32})

Fourierft = method("fourierft", "FOURIERFT", "FourierFT: coefficients of the update's spectrum (arXiv 2405.03003).",
    SPECTRAL, 5e-2, HUGE, {"n_frequency": 1000, "scaling": 150.0}, exact=False, quantised=("int8",))
Waveft = method("waveft", "WAVEFT", "WaveFT: coefficients of the update's wavelets (arXiv 2505.12532).",
    SPECTRAL, 5e-2, HUGE, {"n_frequency": 1000, "scaling": 25.0})
C3A = method("c3a", "C3A", "C3A: updates that are blocks of circular convolutions (arXiv 2407.19342).",
    SPECTRAL, 3e-2, HUGE, {"block_size": 0}, sizes={"block_size": 128}, exact=False)

Loha = method("loha", "LOHA", "LoHa: updates are products, number by number, of low-rank ones (arXiv 2108.06098).",
    PRODUCT, 1e-3, MIDDLE, {"rank": 8, "alpha": 8}, quantised=("int8",))
Lokr = method("lokr", "LOKR", "LoKr: updates are Kronecker products (LyCORIS, arXiv 2309.14859).",
    PRODUCT, 1e-3, MIDDLE, {"rank": 8, "alpha": 8}, quantised=("int8",))
Hira = method("hira", "HIRA", "HiRA: updates are low-rank matrices times the weights (openreview TwJrTz9cRS).",
    PRODUCT, 1e-3, MIDDLE, {"rank": 32}, quantised=())

Ia3 = method("ia3", "IA3", "IA3: scales of keys, values and what is inside feed-forwards (arXiv 2205.05638).",
    SCALING, 3e-3, LARGE, {}, layers=keys_values_and_feed_forward)
Beft = method("beft", "BEFT", "BEFT: biases that are added to projections (arXiv 2509.15974).",
    SCALING, 1e-3, MIDDLE, {})
LnTuning = method("ln_tuning", "LN_TUNING", "LN tuning: the blocks' normalisation layers train (arXiv 2312.11420).",
    SCALING, 1e-3, MIDDLE, {}, layers=norms)

Shira = method("shira", "SHIRA", "SHiRA: random single weights train (arXiv 2406.13175).",
    SPARSE, 1e-3, MIDDLE, {"rank": 8}, fixed={"random_seed": 0}, quantised=())
Supertuning = method("supertuning", "SUPERTUNING", "Super-Tuning: the largest single weights train (arXiv 2607.09287).",
    SPARSE, 1e-3, MIDDLE, {"sparsity": 0.99}, quantised=())
# fmt: on
