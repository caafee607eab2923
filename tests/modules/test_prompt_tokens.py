"""Prompt tokens in the sequence of real encoders and decoders: masks, positions, what is refused."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache

import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional

from support.model_zoo import DECODER, ENCODER, ZOO, images, randomise, text, timm_vit, use_kernel
from zipeft.errors import UserError
from zipeft.methods.prompt import DeepPrompt, Prompt
from zipeft.modules.prompt_tokens import insert

LENGTH = 3
METHODS = pytest.mark.parametrize("method", [Prompt, DeepPrompt], ids=["shallow", "deep"])
KERNELS = pytest.mark.parametrize("kernel", ["sdpa", "eager"])
PADDED = pytest.mark.parametrize("padded", [0, 2], ids=["full", "padded"])
OFFSETS = pytest.mark.parametrize("offset", [0, 1])


def modernbert():
    """Rotary embeddings of two kinds, and layers that see a window on either side."""
    shared = {key: ENCODER[key] for key in ("vocab_size", "hidden_size", "num_attention_heads", "num_hidden_layers")}
    tokens = {"pad_token_id": 1, "bos_token_id": 0, "cls_token_id": 0, "eos_token_id": 2, "sep_token_id": 2}
    layers = {"layer_types": ["full_attention", "sliding_attention"], "local_attention": 4, "intermediate_size": 48}
    return transformers.ModernBertModel(transformers.ModernBertConfig(**shared, **tokens, **layers))


def yarn():
    """Rotary embeddings that also stretch what they turn."""
    rope = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0, "original_max_position_embeddings": 16}
    return transformers.LlamaModel(transformers.LlamaConfig(**DECODER, rope_parameters=rope))


def of_zoo(*names):
    return {name: lambda name=name: ZOO[name].build().base_model for name in names}


ENCODERS = of_zoo("roberta", "bert")
DECODERS = of_zoo("llama", "qwen3", "olmo2") | {"yarn": yarn}
WINDOWED = of_zoo("mistral", "gemma3")
MODELS = ENCODERS | DECODERS | WINDOWED | {"modernbert": modernbert}
CAUSAL = DECODERS.keys() | WINDOWED.keys()
EACH = pytest.mark.parametrize("name", MODELS)


@dataclass(frozen=True)
class Tower:
    """As much of a backbone as prompts need."""

    offset: int = 1

    def blocks(self, model):
        return list(model.encoder.layer if hasattr(model, "encoder") else model.layers)

    def width(self, model):
        return model.config.hidden_size

    def hidden_width(self, model):
        return self.width(model)

    def leading_tokens(self, model):
        return self.offset


@cache
def drawn(name):
    torch.manual_seed(0)
    return randomise(MODELS[name]()).requires_grad_(False).eval()


def frozen(name, kernel="sdpa"):
    model = copy.deepcopy(drawn(name))
    use_kernel(model, kernel)
    torch.manual_seed(0)
    return model


def prompted(name, method, kernel="sdpa", offset=1):
    model = frozen(name, kernel)
    method(length=LENGTH).apply(Tower(offset), model)
    for tokens in prompts(model):
        nn.init.normal_(tokens)
    return model


def prompts(model):
    return [parameter for key, parameter in model.named_parameters() if key.endswith("token_prompt.tokens")]


def run(model, inputs):
    return model(**inputs, use_cache=False).last_hidden_state


def widened(inputs, offset):
    """Inputs with tokens where the prompts will stand, and each token's position in the text; 0 for the prompts."""

    def insert(x, value):
        filling = torch.full((len(x), LENGTH), value)
        return torch.cat([x[:, :offset], filling, x[:, offset:]], dim=1)

    positions = torch.arange(inputs["input_ids"].shape[1]).expand_as(inputs["input_ids"])
    ids, mask = insert(inputs["input_ids"], 5), insert(inputs["attention_mask"], 1)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": insert(positions, 0)}, positions


@METHODS
@KERNELS
@PADDED
@OFFSETS
@pytest.mark.parametrize("name", ENCODERS | DECODERS)
def test_prompts_are_tokens_of_a_longer_sequence(name, method, kernel, padded, offset):
    """The same as a plain model in float64 that is given the longer sequence, and makes its own masks and positions.

    Its hidden states in the prompts' place are overwritten before each block that prompts enter.
    """
    model = prompted(name, method, kernel, offset)
    plain = frozen(name).double()
    inputs = text(padded=padded)
    longer, positions = widened(inputs, offset)
    place = slice(offset, offset + LENGTH)

    def overwrite(tokens):
        def hook(_block, args):
            hidden = args[0].clone()
            hidden[:, place] = tokens.detach().double()
            return hidden, *args[1:]

        return hook

    for block, tokens in zip(Tower().blocks(plain), prompts(model), strict=False):
        block.register_forward_pre_hook(overwrite(tokens))
    expected = run(plain, longer)
    expected = torch.cat([expected[:, :offset], expected[:, offset + LENGTH :]], dim=1)
    real = inputs["attention_mask"].bool()
    result = run(model, inputs | {"position_ids": positions})
    assert result.shape == expected.shape
    torch.testing.assert_close(result[real].double(), expected[real], atol=1e-5, rtol=0)
    assert (result - run(frozen(name), inputs | {"position_ids": positions}))[real].abs().max() > 0.05


def encoder_layer(layer, hidden, real):
    """One post-norm encoder layer in float64, for hidden states of which every query sees the ``real`` ones."""

    def dense(x, linear):
        return x @ linear.weight.double().T + linear.bias.double()

    def norm(x, layer_norm):
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + layer_norm.eps).sqrt()
        return x * layer_norm.weight.double() + layer_norm.bias.double()

    attention, output = layer.attention.self, layer.attention.output
    projections = attention.query, attention.key, attention.value
    q, k, v = (dense(hidden, part).unflatten(-1, (attention.num_attention_heads, -1)) for part in projections)
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
    weights = scores.masked_fill(~real[:, None, None], -torch.inf).softmax(-1)
    attended = torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2)
    hidden = norm(hidden + dense(attended, output.dense), output.LayerNorm)
    inner = functional.gelu(dense(hidden, layer.intermediate.dense))
    return norm(hidden + dense(inner, layer.output.dense), layer.output.LayerNorm)


@METHODS
@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_with_prompts_is_its_layers_over_the_longer_sequence(name, method):
    """Layer by layer in float64, written out."""
    model, plain, inputs = prompted(name, method), frozen(name), text()
    real = inputs["attention_mask"].bool()
    hidden = plain.embeddings(input_ids=inputs["input_ids"]).double()
    seen = torch.cat([real[:, :1], torch.ones(2, LENGTH, dtype=torch.bool), real[:, 1:]], dim=1)
    for index, layer in enumerate(plain.encoder.layer):
        if index < len(prompts(model)):
            behind = hidden[:, 1 + LENGTH * (index > 0) :]
            hidden = torch.cat([hidden[:, :1], prompts(model)[index].double().expand(2, -1, -1), behind], dim=1)
        hidden = encoder_layer(layer, hidden, seen)
    hidden = torch.cat([hidden[:, :1], hidden[:, 1 + LENGTH :]], dim=1)
    torch.testing.assert_close(run(model, inputs)[real].double(), hidden[real], atol=1e-5, rtol=0)


@EACH
@METHODS
@KERNELS
def test_a_padded_batch_is_each_sentence_alone(name, method, kernel):
    model = prompted(name, method, kernel)
    inputs = text(batch=3, padded=3)
    together = run(model, inputs)
    assert together.shape[:2] == inputs["input_ids"].shape
    for i, count in enumerate(inputs["attention_mask"].sum(1)):
        alone = run(model, {key: x[i : i + 1, :count] for key, x in inputs.items()})
        torch.testing.assert_close(together[i, :count], alone[0], atol=1e-5, rtol=1e-5)


@EACH
@METHODS
@OFFSETS
def test_every_token_of_every_prompt_learns_from_every_real_token_behind_it(name, method, offset):
    """Also where a layer's window is narrower than the sequence."""
    model = prompted(name, method, offset=offset)
    inputs = text()
    last = run(model, inputs)[0, -1]  # the token that is farthest away
    last.square().sum().backward()
    assert len(prompts(model)) == (2 if method is DeepPrompt else 1)
    for tokens in prompts(model):
        assert (tokens.grad != 0).any(dim=1).all()
        tokens.grad = None
    run(model, inputs).square()[inputs["attention_mask"].bool()].sum().backward()
    assert all((tokens.grad != 0).all() for tokens in prompts(model))


@METHODS
@PADDED
@OFFSETS
@pytest.mark.parametrize("name", sorted(CAUSAL))
def test_prompts_carry_nothing_back_to_earlier_tokens(name, method, padded, offset):
    model = prompted(name, method, offset=offset)
    inputs = text(padded=padded)
    before = run(model, inputs)
    for position in (0, 1, 2, 4):
        changed = inputs["input_ids"].clone()
        changed[:, position] = 60 - changed[:, position]
        after = run(model, inputs | {"input_ids": changed})
        torch.testing.assert_close(after[:, :position], before[:, :position], atol=1e-6, rtol=0)
        assert not torch.allclose(after[0, position:], before[0, position:], atol=1e-3)


@METHODS
@pytest.mark.parametrize("name", ENCODERS)
def test_a_mask_of_any_form_is_the_same_mask(name, method):
    model, inputs = prompted(name, method), text()
    real = inputs["attention_mask"].bool()
    row = real[:, None, None]
    additive = torch.zeros(2, 1, 1, 7).masked_fill(~row, -torch.inf)
    expected = run(model, inputs)[real]
    for mask in (row, row.expand(-1, 1, 7, -1), row.expand(-1, 4, 7, -1), additive, additive.expand(-1, 1, 7, -1)):
        result = run(model, inputs | {"attention_mask": mask})[real]
        torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)
    alone = {"input_ids": inputs["input_ids"].flip(0), "attention_mask": row[1:]}  # one mask for the whole batch
    torch.testing.assert_close(run(model, alone)[0, :5], run(model, inputs)[1, :5], atol=1e-5, rtol=1e-5)


@METHODS
def test_a_vit_computes_what_it_does_with_its_tokens_in_the_sequence(method):
    """Bit for bit."""
    torch.manual_seed(0)
    plain = randomise(timm_vit()).requires_grad_(False).eval()
    model = copy.deepcopy(plain)

    @dataclass(frozen=True)
    class ViT(Tower):
        def blocks(self, model):
            return list(model.blocks)

        def width(self, model):
            return model.embed_dim

    method(length=LENGTH).apply(ViT(), model)
    seen = {}
    plain.blocks[0].register_forward_pre_hook(lambda _block, args: seen.update(first=args[0]))
    model.blocks[-1].register_forward_hook(lambda _block, _args, output: seen.update(last=output))
    plain(images()), model(images())
    hidden = seen["first"]
    for index, block in enumerate(plain.blocks):
        if index < len(prompts(model)):
            behind = hidden[:, 1 + LENGTH * (index > 0) :]
            hidden = block(torch.cat([hidden[:, :1], prompts(model)[index].expand(2, -1, -1), behind], dim=1))
        else:
            hidden = block(hidden)
    assert torch.equal(seen["last"], torch.cat([hidden[:, :1], hidden[:, 1 + LENGTH :]], dim=1))


@EACH
@METHODS
def test_a_deep_copy_and_its_original_are_two_models(name, method):
    model, inputs = prompted(name, method), text()
    expected = run(model, inputs)
    copied = copy.deepcopy(model)
    assert torch.equal(run(copied, inputs), expected)
    with torch.no_grad():
        for tokens in prompts(copied):
            tokens.mul_(-1)
    assert not torch.allclose(run(copied, inputs), expected, atol=1e-3)
    assert torch.equal(run(model, inputs), expected)


@METHODS
def test_prompts_of_a_bfloat16_model_are_float32(method):
    model = frozen("roberta").bfloat16()
    method(length=LENGTH).apply(Tower(), model)
    output = run(model, text())
    assert output.dtype == torch.bfloat16
    output.float().square().sum().backward()
    assert all(tokens.dtype == tokens.grad.dtype == torch.float32 for tokens in prompts(model))


class Block(nn.Module):
    """Takes anything, and returns its hidden states first in a tuple."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, hidden, attention_mask=None, **options):
        self.seen = {"attention_mask": attention_mask, **options}
        return hidden * self.weight, "the rest"


def test_blocks_may_return_tuples():
    block = Block()
    insert([block], entries=1, length=LENGTH, width=8, offset=1)
    hidden = torch.randn(2, 5, 8)
    output, rest = block(hidden, None, output_attentions=True, attn_mask=torch.ones(2, 1, 5, 5, dtype=torch.bool))
    assert torch.equal(output, hidden)
    assert rest == "the rest"
    assert block.seen["attn_mask"].shape == (2, 1, 8, 8)
    assert block.seen["output_attentions"] is True


def grid(*rows):
    """A mask (1, 1, queries, keys) of rows such as "110"."""
    return torch.tensor([[int(key) for key in row] for row in rows]).bool()[None, None]


MASKS = {  # with two prompts P behind the first of four tokens: 0PP123
    "a window": (
        False,
        grid("1100", "1110", "0111", "0011"),
        grid("111100", "111100", "111100", "111110", "011111", "011011"),
    ),
    "looking back": (
        True,
        grid("1000", "1100", "1110", "1111"),
        grid("100000", "110000", "111000", "111100", "111110", "111111"),
    ),
    "a window that looks back": (
        True,
        grid("1000", "1100", "0110", "0011"),
        grid("100000", "110000", "111000", "111100", "011110", "011011"),
    ),
    "looking back, but for one token": (
        True,
        grid("1000", "1110", "1110", "1111"),
        grid("100000", "110000", "111000", "111110", "111110", "111111"),
    ),
    "padding": (False, grid("1100"), grid("111100")),
    "padding where prompts look back": (
        True,
        grid("1100"),
        grid("100100", "110000", "111000", "111100", "111100", "111100"),
    ),
}


@pytest.mark.parametrize("additive", [True, False])
@pytest.mark.parametrize("form", MASKS)
def test_a_mask_gets_room_for_prompts(form, additive):
    causal, mask, expected = MASKS[form]
    block = Block()
    block.is_causal = causal
    insert([block], entries=1, length=2, width=8, offset=1)
    if additive:
        lowest = torch.finfo(torch.float32).min
        mask, expected = (torch.zeros(x.shape).masked_fill(~x, lowest) for x in (mask, expected))
    block(torch.randn(1, 4, 8), mask)
    assert torch.equal(block.seen["attention_mask"], expected)


UNKNOWN = {
    "a padding mask": {"attention_mask": torch.ones(1, 5)},
    "a mask of another length": {"attention_mask": torch.ones(2, 1, 5, 6)},
    "a mask of whole numbers": {"attention_mask": torch.ones(2, 1, 5, 5, dtype=torch.long)},
    "relative positions": {"position_bias": torch.ones(1, 2, 5, 5)},
    "rotations of another length": {"position_embeddings": (torch.ones(1, 6, 4), torch.ones(1, 6, 4))},
    "rotations as complex numbers": {"position_embeddings": torch.ones(5, 4, dtype=torch.complex64)},
    "packed sequences": {"cu_seq_lens_q": torch.tensor([0, 5, 10])},
}


@pytest.mark.parametrize("argument", UNKNOWN)
@pytest.mark.parametrize("by_name", [True, False])
def test_an_argument_that_is_not_understood_is_refused(argument, by_name):
    ((name, value),) = UNKNOWN[argument].items()
    block = Block()
    insert([block], entries=1, length=LENGTH, width=8, offset=1)
    args, kwargs = ((), {name: value}) if by_name or name != "attention_mask" else ((value,), {})
    with pytest.raises(UserError, match=f"argument {name} ") as error:
        block(torch.randn(2, 5, 8), *args, **kwargs)
    assert "\n" not in str(error.value)


def test_a_kernel_that_masks_by_lengths_is_refused():
    model = frozen("llama")
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(UserError, match="not with flash_attention_2"):
        Prompt().apply(Tower(), model)
    assert prompts(model) == []
