"""Turn the DINOv2-S backbone in the ONNX graph of a saliency model into a state dict of timm's ``VisionTransformer``.

The graph is that of ``transformers``' ``Dinov2Model`` with a decoder behind it, which is dropped. Its parameters keep
their names, with three exceptions: linear weights are the constant inputs of ``MatMul`` nodes, transposed, and the
node's name says whose they are; the position table is the constant that is reshaped to the grid before it is resized;
and the class token's position is the constant that is put in front of the resized table.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RENAMED = (
    ("backbone.embeddings.cls_token", "cls_token"),
    ("backbone.embeddings.patch_embeddings.projection.", "patch_embed.proj."),
    ("backbone.encoder.layer.", "blocks."),
    ("backbone.layernorm.", "norm."),
    (".attention.output.dense.", ".attn.proj."),
    (".layer_scale1.lambda1", ".ls1.gamma"),
    (".layer_scale2.lambda1", ".ls2.gamma"),
)


def convert(graph: Path, target: Path) -> None:
    """Read the ONNX file ``graph`` and write the weights of timm's ``vit_small_patch14_dinov2`` as safetensors."""
    from safetensors.numpy import save

    target.write_bytes(save(timm_state(parameters(graph))))


def parameters(graph: Path) -> dict[str, NDArray[np.float32]]:
    """Return the backbone's parameters by the names that they had before the export, linear weights (out, in)."""
    import onnx
    from onnx.numpy_helper import to_array

    content = onnx.load(graph).graph
    constants = {tensor.name: to_array(tensor) for tensor in content.initializer}
    found = {name: value for name, value in constants.items() if name.startswith("backbone.")}
    for node in content.node:
        owner, _, operation = node.name.strip("/").replace("/", ".").rpartition(".")
        constant = next((constants[name] for name in node.input if name in constants), None)
        if constant is None or not owner.startswith("backbone."):
            continue
        if operation == "MatMul":
            found[f"{owner}.weight"] = constant.T
        elif owner == "backbone.embeddings" and constant.ndim == 3 and constant.shape[1] == 1 and "Concat" in operation:
            found["backbone.embeddings.class_position"] = constant
        elif owner == "backbone.embeddings" and constant.ndim == 3 and "Reshape" in operation:
            found["backbone.embeddings.patch_positions"] = constant
    return found


def timm_state(found: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Rename ``parameters`` to timm's names; query, key and value become one ``qkv``."""
    import numpy as np

    found = dict(found)
    positions = [found.pop(f"backbone.embeddings.{part}_position{s}") for part, s in (("class", ""), ("patch", "s"))]
    state = {"pos_embed": np.concatenate(positions, axis=1)}
    for name in [name for name in found if ".attention.attention.query." in name]:
        parts = [found.pop(name.replace(".query.", f".{part}.")) for part in ("query", "key", "value")]
        found[name.replace(".attention.attention.query.", ".attn.qkv.")] = np.concatenate(parts, axis=0)
    for name, value in found.items():
        for old, new in RENAMED:
            name = name.replace(old, new)
        state[name] = np.ascontiguousarray(value)
    return state
