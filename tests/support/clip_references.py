"""CLIP's towers step by step, with prompts where the papers have them, in whatever precision a model is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def unit(features: Tensor) -> Tensor:
    return features / features.norm(dim=-1, keepdim=True)


def text_features(clip: nn.Module, tokens: Tensor, prompts: Sequence[Tensor] = ()) -> Tensor:
    """Return features (texts, width) of tokens (texts, context length), in which ``prompts`` stand behind the start:
    the first in the input, and the others in that of the blocks behind the first one."""
    embedded = clip.token_embedding.weight[tokens]
    rows = []
    for row, own in zip(embedded, tokens, strict=True):
        hidden = row
        for index, block in enumerate(clip.transformer.resblocks):
            if index < len(prompts):
                length = len(prompts[index])
                hidden = torch.cat([hidden[:1], prompts[index], hidden[1 + length :]])
            if index == 0:
                hidden = hidden + clip.positional_embedding
            hidden = _block(block, hidden[None], clip.attn_mask)[0]
        rows.append(clip.ln_final(hidden)[own.argmax()] @ clip.text_projection)
    return torch.stack(rows)


def image_features(clip: nn.Module, images: Tensor, prompts: Sequence[Tensor] = ()) -> Tensor:
    """Return features (batch, width) of images, with ``prompts`` behind the class token in the input of each of the
    first blocks; those of the last one stay."""
    visual = clip.visual
    patches = visual.conv1(images).flatten(2).transpose(1, 2)
    start = visual.class_embedding.expand(len(images), 1, -1)
    hidden = visual.ln_pre(torch.cat([start, patches], dim=1) + visual.positional_embedding)
    for index, block in enumerate(visual.transformer.resblocks):
        if index < len(prompts):
            length = len(prompts[index])
            front, behind = hidden[:, :1], hidden[:, 1 + (length if index else 0) :]
            hidden = torch.cat([front, prompts[index].expand(len(images), -1, -1), behind], dim=1)
        hidden = _block(block, hidden)
    return visual.ln_post(hidden[:, 0]) @ visual.proj


def _block(block: nn.Module, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
    """A block by its weights: attention and the feed-forward, each behind its norm, with a residual."""
    attention, normed = block.attn, block.ln_1(hidden)
    q, k, v = (normed @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(3, dim=-1)
    q, k, v = (x.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for x in (q, k, v))
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    weights = (scores if mask is None else scores + mask.to(scores.dtype)).softmax(-1)
    mixed = (weights @ v).transpose(1, 2).flatten(2)
    hidden = hidden + attention.out_proj(mixed)
    return hidden + block.mlp(block.ln_2(hidden))
