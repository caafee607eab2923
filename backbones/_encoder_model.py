"""Text encoders of ``transformers`` as models: from a folder or at random, and refused where a method would not work.

What the library passes over is an error here: weights that lack a part, which it draws at random, weights of layers
that the config does not have, and tables of another size.
"""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zipeft.backbones import _encoder_folder
from zipeft.backbones._encoder_folder import line, quiet
from zipeft.errors import UserError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel

ENCODERS = "take an encoder such as roberta-base, xlm-roberta-base or bert-base-uncased"
BUFFERS = ("position_ids", "token_type_ids")
"""Constants that older files hold among the weights."""


def load(folder: Path) -> PreTrainedModel:
    """Return the model of a folder in float32 and evaluation mode, without a pooling layer where it can be without.

    A head among the weights is dropped; all else must match. Raises ``UserError`` if it does not, and as ``checked``.
    """
    config = _encoder_folder.read_config(folder)
    check_config(config)
    model_class = _model_class(config)
    # Read here and not by the library, so that what is hashed is what is loaded, and nothing else in the folder is.
    state = _encoder_folder.read_state(folder)
    with _built(model_class):
        model, report = model_class.from_pretrained(
            None,
            config=config,
            state_dict=state,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are in the report
            **_options(model_class),
        )
    if problem := _mismatch(model, report):
        raise UserError(f"the weights in {str(folder)!r} are not those of the model in its config: {problem}")
    return checked(model.eval())


def at_random(config: PreTrainedConfig) -> PreTrainedModel:
    """Return the model of a config at random weights, the same each time, in float32 and evaluation mode.

    Raises ``UserError`` as ``checked`` does.
    """
    from transformers import AutoModel

    model_class = _model_class(config)
    with _built(model_class):
        model = AutoModel.from_config(copy.deepcopy(config), trust_remote_code=False, **_options(model_class))
    return checked(model.eval())


def layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers in order: the list in the model that is as long as its config says; empty if there is none."""
    from torch import nn

    count = getattr(model.config, "num_hidden_layers", None)
    lists = (module for module in model.modules() if isinstance(module, nn.ModuleList))
    return list(next((found for found in lists if len(found) == count), ()))


def longest_input(config: PreTrainedConfig) -> int:
    """Return for how many tokens the model has positions; where they are relative, as many as an int can say."""
    rows = getattr(config, "max_position_embeddings", None) or sys.maxsize
    return rows - (config.pad_token_id or 0) - 1 if counts_from_padding(config) else rows


def counts_from_padding(config: PreTrainedConfig) -> bool:
    """Whether positions are counted from the padding id plus one and padding tokens have none (RoBERTa and its kin)."""
    code = sys.modules[_model_class(config).__module__]
    parts = (part for part in vars(code).values() if inspect.isclass(part) and part.__module__ == code.__name__)
    return any(hasattr(part, "create_position_ids_from_input_ids") for part in (code, *parts))


def has_token_types(config: PreTrainedConfig) -> bool:
    """Whether the model tells the first text of a pair from the second by token types (BERT and its kin)."""
    return getattr(config, "type_vocab_size", 1) > 1


def _model_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    from transformers import MODEL_MAPPING

    found = MODEL_MAPPING.get(type(config), None)
    if found is None:
        raise UserError(f"transformers has no plain model for {type(config).__name__}: {ENCODERS}")
    return found[0] if isinstance(found, tuple) else found


def _options(model_class: type[PreTrainedModel]) -> dict[str, Any]:
    import torch

    pooling = "add_pooling_layer" in inspect.signature(model_class.__init__).parameters
    options = {"add_pooling_layer": False} if pooling else {}
    return {**options, "dtype": torch.float32, "attn_implementation": "sdpa"}


@contextmanager
def _built(model_class: type[PreTrainedModel]) -> Iterator[None]:
    """Build a model without a trace in the random numbers of others, and word what the library raises."""
    import torch

    try:
        with torch.random.fork_rng(devices=[]), quiet():
            torch.default_generator.manual_seed(0)
            yield
    except Exception as error:  # what sizes, kernels or tensors that do not go together raise is no contract
        raise UserError(f"{model_class.__name__} cannot be built ({line(error)}): {ENCODERS}") from error


def _mismatch(model: PreTrainedModel, report: Mapping[str, Any]) -> str:
    """Say what in the report of a loading does not match, "" if all does; a pooling layer is of no account."""
    if missing := sorted(key for key in report["missing_keys"] if not key.startswith("pooler.")):
        return f"it lacks {missing[0]!r}"
    for key, given, own in sorted(report["mismatched_keys"]):
        return f"{key!r} is {tuple(given)}, not {tuple(own)}"
    parts = {name for name, _ in model.named_children()} - {"pooler"}
    for key in sorted(report["unexpected_keys"]):
        path = key.removeprefix(f"{model.base_model_prefix}.").split(".")
        if path[0] in parts and path[-1] not in BUFFERS:
            return f"it has {key!r}, which the model has not"
    return ""


# --- what a model must be ---------------------------------------------------------------------------------------------


def check_config(config: PreTrainedConfig) -> None:
    """Check the model of a config as ``checked`` does, as far as that goes without its weights and their memory."""
    import torch

    with torch.device("meta"):
        at_random(config)


def checked(model: PreTrainedModel) -> PreTrainedModel:
    """Return the model. Raises ``UserError`` unless it encodes token ids by layers that every method can join."""
    from zipeft.splices import TransformersSplice

    name, found = type(model).__name__, layers(model)
    attentions = [[part for part in layer.modules() if TransformersSplice.matches(part)] for layer in found]
    if not found or model.main_input_name != "input_ids" or any(len(inside) != 1 for inside in attentions):
        raise UserError(
            f"{name} is no text encoder with one attention a layer that goes through transformers' attention "
            f"interface: {ENCODERS}"
        )
    if model.config.is_encoder_decoder or any(getattr(inside, "is_causal", False) for (inside,) in attentions):
        raise UserError(_is_decoder(name))
    if not any(parameter.is_meta for parameter in model.parameters()):
        _check_pass(model, found)
    return model


def _check_pass(model: PreTrainedModel, found: Sequence[nn.Module]) -> None:
    """Let two short inputs pass, which differ in their last token, and see which layers hidden states go through."""
    import torch

    name, passed = type(model).__name__, []

    def keep(layer: nn.Module, taken: tuple, given: Any) -> None:
        passed.append((layer, *taken[:1], given))

    one, other = [token for token in range(3) if token != model.config.pad_token_id][:2]
    ids = torch.tensor([[one, one], [one, other]])
    handles = [layer.register_forward_hook(keep) for layer in found]
    try:
        with torch.no_grad():
            hidden = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    except Exception as error:  # it asks for other inputs, or gives other outputs
        raise UserError(f"{name} does not turn token ids into hidden states ({line(error)}): {ENCODERS}") from error
    finally:
        for handle in handles:
            handle.remove()
    shape = (*ids.shape, model.config.hidden_size)
    states = [state for _, *both in passed for state in both]
    if [layer for layer, *_ in passed] != list(found) or any(getattr(state, "shape", 0) != shape for state in states):
        raise UserError(f"the layers of {name} do not hand hidden states on, one to the next: {ENCODERS}")
    if torch.allclose(hidden[0, 0], hidden[1, 0], rtol=0, atol=1e-6):
        raise UserError(_is_decoder(name))


def _is_decoder(name: str) -> str:
    return f"{name} is a decoder, in which a token does not see those behind it: {ENCODERS}"
