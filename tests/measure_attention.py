"""Measure which attention classes prompts join, and what then holds, on small random models made without a network.

    python tests/measure_attention.py [WORD ...]

Every model of ``support/attention_models.py`` is built, or those alone whose library or name holds a word. What was
found goes to docs/attention-classes.tsv, a line a model, in which a change shows; ``python tests/fill_documents.py``
makes the document's tables of it. There are yes and no in it, and no figures that differ from machine to machine.
"""

from __future__ import annotations

import copy
import io
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor, nn

from support.attention_models import Model, models
from support.model_zoo import ordinary_path, randomise, randomise_prompts
from support.own_tokens import agrees_with_its_own_tokens
from zipeft.errors import UserError
from zipeft.splices import attach, gated_prompts

FILE = Path(__file__).parents[1] / "docs" / "attention-classes.tsv"
NONE = "-"


@dataclass(frozen=True)
class Row:
    """What was found of one model; "-" where a question does not arise."""

    library: str
    model: str
    result: str
    """joins, joins a part, refused, cannot be built, or wrong."""
    layers: str = NONE
    classes: str = NONE
    start: str = NONE
    """Whether at zero gates the output is the frozen model's, bit for bit."""
    tokens: str = NONE
    """Whether a prompt gets the key and value that the layer itself gives the same input (interface alone)."""
    learns: str = NONE
    saves: str = NONE
    bf16: str = NONE
    checkpointing: str = NONE
    cache: str = NONE
    """Whether text that is generated with a cache is that without."""
    why: str = ""


def measured(model: Model) -> Row:
    """Return the row of a model."""
    torch.manual_seed(0)
    try:
        frozen = randomise(model.build()).requires_grad_(False).eval()
        with torch.no_grad(), ordinary_path():
            expected = model.run(frozen)
    except Exception as error:  # what a library raises at settings or sizes that it does not take is no contract
        return Row(model.library, model.name, "cannot be built", why=one_line(error))
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            joined = copy.deepcopy(frozen)
            prompts = attach(joined, length=3)
    except UserError as error:
        return Row(model.library, model.name, "refused", why=reason(str(error)))
    left = next((str(each.message) for each in heard if str(each.message).startswith("not joined")), "")
    hosts = [module for module in joined.modules() if hasattr(module, "zero_gated_prompt")]
    checks: dict[str, Callable[[], str]] = {
        "start": lambda: same_at_start(model, joined, expected),
        "tokens": lambda: agrees_with_its_own_tokens(joined, hosts, lambda: model.run(joined)),
        "learns": lambda: learns(model, joined),
        "saves": lambda: saves(model, frozen, joined),
        "bf16": lambda: in_bf16(model, frozen),
        "checkpointing": lambda: checkpointed(model, frozen, joined),
        "cache": lambda: generated(model, joined),
    }
    found = {name: attempted(check) for name, check in checks.items()}
    result = "wrong" if "no" in (found["start"], found["tokens"]) else "joins a part" if left else "joins"
    classes = ", ".join(dict.fromkeys(type(host).__name__ for host in hosts))
    return Row(model.library, model.name, result, str(len(prompts)), classes, **found, why=left.partition(": ")[2])


def attempted(check: Callable[[], str]) -> str:
    try:
        return check()
    except Exception as error:  # the table says it, and goes on
        print(f"    {type(error).__name__}: {one_line(error)}", file=sys.stderr)
        return "fails"


def said(holds: bool) -> str:
    return "yes" if holds else "no"


def same_at_start(model: Model, joined: nn.Module, expected: Tensor) -> str:
    with torch.no_grad():
        return said(torch.equal(model.run(joined), expected))


def loss_of(model: Model, joined: nn.Module, target: Tensor) -> Tensor:
    return nn.functional.mse_loss(model.run(joined).float(), target)


def learns(model: Model, joined: nn.Module) -> str:
    """Whether steps towards the output of other prompts lower the loss, and each parameter that is used has a gradient.

    BLIP's text model has layers for an image's tokens, which its pair of towers leaves out.
    """
    learner = copy.deepcopy(joined)
    prompts = randomise_prompts(gated_prompts(learner))
    with torch.no_grad():
        target = model.run(learner).float()
    for prompt in prompts:
        prompt.gate.data.zero_()
    parameters = [parameter for prompt in prompts for parameter in prompt.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=0.02)
    losses = []
    for _ in range(8):
        optimiser.zero_grad()
        loss = loss_of(model, learner, target)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    used = [parameter for parameter in parameters if parameter.grad is not None]
    return said(bool(used) and all((p.grad != 0).any() for p in used) and losses[-1] < losses[0])


def saves(model: Model, frozen: nn.Module, joined: nn.Module) -> str:
    """Whether prompts of a file, put into another model, give the output that they gave."""
    learner, other = copy.deepcopy(joined), copy.deepcopy(frozen)
    randomise_prompts(gated_prompts(learner))
    kept = {name: x for name, x in learner.state_dict().items() if "zero_gated_prompt" in name}
    torch.save(kept, file := io.BytesIO())
    file.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        attach(other, length=3)
    other.load_state_dict(torch.load(file), strict=False)
    with torch.no_grad():
        return said(torch.equal(model.run(other), model.run(learner)))


def in_bf16(model: Model, frozen: nn.Module) -> str:
    half = copy.deepcopy(frozen).bfloat16()
    with torch.no_grad(), ordinary_path():
        expected = model.run(half)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prompts = attach(half, length=3)
    with torch.no_grad():
        starts = torch.equal(model.run(half), expected)
    randomise_prompts(prompts)
    output = model.run(half)
    output.float().square().mean().backward()
    reached = [prompt.prompt for prompt in prompts if prompt.prompt.grad is not None]
    finite = torch.isfinite(output).all() and all(torch.isfinite(prompt.grad).all() for prompt in reached)
    return said(starts and bool(finite) and all(prompt.dtype == torch.float32 for prompt in reached))


def checkpointed(model: Model, frozen: nn.Module, joined: nn.Module) -> str:
    """Whether gradients of activations that are computed again are those of activations that are kept."""
    learner, plain = copy.deepcopy(joined), copy.deepcopy(frozen)
    prompts = randomise_prompts(gated_prompts(learner))
    settle(learner)
    settle(plain)
    try:
        recompute(plain)
        model.run(plain)
    except Exception:  # the model without prompts cannot: open_clip's custom blocks, timm's PiT
        return NONE
    kept = gradients(model, learner, prompts)
    recompute(learner)
    again = gradients(model, learner, prompts)
    return said(all(torch.allclose(a, b, atol=1e-5, rtol=1e-4) for a, b in zip(kept, again, strict=True)))


def recompute(learner: nn.Module) -> None:
    """Let activations be computed again. Raises what the library does where the model has no such form."""
    if hasattr(learner, "gradient_checkpointing_enable"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            learner.gradient_checkpointing_enable({"use_reentrant": False})
    else:
        learner.set_grad_checkpointing(True)


def settle(learner: nn.Module) -> None:
    """Train, but without chance: checkpointing is done in training alone, and dropout would draw twice."""
    learner.train()
    for module in learner.modules():
        if isinstance(module, (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)):
            module.eval()
        for name in ("attention_dropout", "dropout", "layerdrop", "drop_prob", "activation_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def gradients(model: Model, learner: nn.Module, prompts: list[nn.Module]) -> list[Tensor]:
    learner.zero_grad()
    output = model.run(learner).float()
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    found = [parameter.grad for prompt in prompts for parameter in prompt.parameters()]
    return [gradient.clone() for gradient in found if gradient is not None]


def generated(model: Model, joined: nn.Module) -> str:
    if not model.writes or not hasattr(joined, "generate"):
        return NONE
    writer = copy.deepcopy(joined)
    randomise_prompts(gated_prompts(writer))
    ids = model.inputs()["input_ids"]
    settings = {"do_sample": False, "max_new_tokens": 6, "min_new_tokens": 6, "pad_token_id": 1}
    with torch.no_grad():
        texts = [
            writer.generate(ids, attention_mask=torch.ones_like(ids), use_cache=cache, **settings)
            for cache in (True, False)
        ]
    return said(torch.equal(*texts))


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__


def reason(message: str) -> str:
    """Return what a refusal says in its brackets, or that there is no attention."""
    _, found, rest = message.partition("(not ")
    return rest.rpartition(")")[0] if found else "no attention layer that is known as one"


def read() -> list[Row]:
    """Return the rows of the file."""
    header, *lines = FILE.read_text(encoding="utf-8").splitlines()
    return [Row(**dict(zip(header.split("\t"), line.split("\t"), strict=True))) for line in lines]


def write(rows: list[Row]) -> None:
    header = [field.name for field in fields(Row)]
    lines = ["\t".join(header), *("\t".join(asdict(row).values()) for row in rows)]
    FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> int:
    asked = sys.argv[1:]
    chosen = [m for m in models() if not asked or any(word in f"{m.library} {m.name}" for word in asked)]
    rows = {(row.library, row.model): row for row in read()} if asked and FILE.is_file() else {}
    for model in chosen:
        row = rows[model.library, model.name] = measured(model)
        print(*asdict(row).values(), sep=" | ", flush=True)
    write(sorted(rows.values(), key=lambda row: (row.library, row.model.lower())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
