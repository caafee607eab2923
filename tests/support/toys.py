"""Backbones and tasks that are small enough to train in a second, for tests of everything around them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, ClassVar

import open_clip
import timm
import torch
from PIL.Image import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor, to_pil_image
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, RobertaConfig, RobertaModel

from zipeft import registry
from zipeft.api.backbone import ImageBackbone, TextBackbone, Weights
from zipeft.api.data import Data, Picture, Split, Window
from zipeft.api.language_backbone import LanguageBackbone
from zipeft.api.sealed import TestKey
from zipeft.api.task import Preset, Task
from zipeft.backbones.clip.backbone import CLIP
from zipeft.backbones.clip.matcher import ZeroShotCLIP, create
from zipeft.backbones.llama.backbone import Llama
from zipeft.backbones.roberta.backbone import Roberta
from zipeft.backbones.vlm.backbone import VLM
from zipeft.objectives.classification import Classification
from zipeft.objectives.matching import Matching
from zipeft.objectives.options import Answer
from zipeft.objectives.responses import Responses
from zipeft.tasks.instruct.data import Instruction
from zipeft.tasks.instruct.windows import windows_of
from zipeft.vqa.assembly import Asked, vqa_data
from zipeft.vqa.question import VisualQuestion
from zipeft.vqa.task import VQATask

SIZE = 16


@dataclass(frozen=True)
class ToyViT(ImageBackbone):
    """A ViT of four narrow blocks with random weights."""

    lora_targets: ClassVar[tuple[str, ...]] = ("qkv",)

    def build(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            settings = {"img_size": SIZE, "patch_size": 4, "embed_dim": 32, "depth": 4, "num_heads": 2}
            model = timm.create_model("vit_tiny_patch16_224", num_classes=0, global_pool="avg", **settings).eval()
            for name, parameter in model.named_parameters():  # as large as a trained model's; timm starts near zero
                if parameter.dim() > 1:
                    nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
                elif name.endswith("bias"):
                    nn.init.normal_(parameter, std=0.1)
            return model

    def weights(self) -> Weights:
        return Weights(self.checkpoint or "toy", "random", "")

    def blocks(self, model: nn.Module) -> Sequence[nn.Module]:
        return list(model.blocks)

    def width(self, model: nn.Module) -> int:
        return model.num_features

    def features(self, model: nn.Module, inputs: Tensor) -> Tensor:
        return model(inputs)

    def image_transform(self, size: int) -> Callable[[Image | Tensor], Tensor]:
        return lambda image: image if isinstance(image, Tensor) else pil_to_tensor(image) / 255


@dataclass(frozen=True)
class ToyTask(Classification, Task):
    """Noise with one bright colour channel, which is the label. It is its own objective."""

    examples: int = 48
    classes: int = 3

    modality: ClassVar[str] = "image"
    presets: ClassVar[dict[str, Preset]] = {
        "quick": Preset(protocol={"epochs": 3, "batch_size": 8}, methods=("linear", "zero_gated"), seeds=2)
    }

    def datasets(self) -> Sequence[str]:
        return ("colours",)

    def load(self, dataset: str) -> Data:
        train, validation, test = (self._split(seed) for seed in range(3))
        names = ["red", "green", "blue"][: self.classes]
        return Data(dataset, names, train, validation, test, "drawn", f"{self.examples} {self.classes}")

    def objective(self, dataset: str, classes: Sequence[str]) -> ToyTask:
        return self

    def encoder(self, backbone: ImageBackbone) -> Callable[[Tensor], Tensor]:
        return backbone.image_transform(SIZE)

    def _split(self, seed: int) -> Split:
        generator = torch.Generator().manual_seed(seed)
        targets = [index % self.classes for index in range(self.examples)]
        images = torch.randn(self.examples, 3, SIZE, SIZE, generator=generator)
        for image, target in zip(images, targets, strict=True):
            image[target] += 0.5
        return Split(list(images), targets, [f"{seed}/{index}" for index in range(self.examples)])


WORDS = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "good", "bad", "so", "it", "was", "the", "film", "a", "very", "end")


@cache
def toy_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    special = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=["input_ids", "attention_mask"], **special
    )


@dataclass(frozen=True)
class ToyEncoder(Roberta):
    """A RoBERTa of two narrow layers with random weights."""

    def build(self) -> nn.Module:
        size = {"vocab_size": len(WORDS), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        places = {"max_position_embeddings": 66, "type_vocab_size": 1, "pad_token_id": 0}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            config = RobertaConfig(**size, **places, intermediate_size=64, initializer_range=0.2)
            return RobertaModel(config, add_pooling_layer=False).eval()

    def weights(self) -> Weights:
        return Weights(self.checkpoint or "toy", "random", "")

    def tokenizer(self) -> PreTrainedTokenizerFast:
        return toy_tokenizer()

    def vocabulary(self) -> int:
        return len(self.tokenizer())

    def max_length(self) -> int:
        return 64


@dataclass(frozen=True)
class ToyTexts(Classification, Task):
    """Sentences of different lengths; the label is which of two words is half of them. It is its own objective."""

    examples: int = 48

    modality: ClassVar[str] = "text"
    presets: ClassVar[dict[str, Preset]] = {
        "quick": Preset(protocol={"epochs": 3, "batch_size": 8}, methods=("linear", "zero_gated"), seeds=2)
    }

    def datasets(self) -> Sequence[str]:
        return ("praise",)

    def load(self, dataset: str) -> Data:
        train, validation, test = (self._split(seed) for seed in range(3))
        return Data(dataset, ["bad", "good"], train, validation, test, "written", f"{self.examples}")

    def objective(self, dataset: str, classes: Sequence[str]) -> ToyTexts:
        return self

    def encoder(self, backbone: TextBackbone) -> Callable[[str], dict[str, Tensor]]:
        tokenizer = backbone.tokenizer()
        return lambda text: {name: torch.tensor(ids) for name, ids in tokenizer(text).items()}

    def _split(self, seed: int) -> Split:
        stream = random.Random(seed)
        targets = [index % 2 for index in range(self.examples)]
        texts = []
        for target in targets:
            words = stream.choices(WORDS[6:], k=stream.randint(2, 12))
            for _ in range(len(words)):
                words.insert(stream.randint(0, len(words)), ("bad", "good")[target])
            texts.append(" ".join(words))
        return Split(texts, targets, [f"{seed}/{index}" for index in range(self.examples)])


@cache
def toy_decoder_tokenizer() -> PreTrainedTokenizerFast:
    """The words of the toys; a text begins with [CLS], as the tokenizer has it, and a response ends with [SEP]."""
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 1)])
    special = {"pad_token": "[PAD]", "bos_token": "[CLS]", "eos_token": "[SEP]", "unk_token": "[UNK]"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=["input_ids", "attention_mask"], **special
    )


@dataclass(frozen=True)
class ToyDecoder(Llama):
    """A LLaMA of two narrow layers with random weights."""

    def build(self) -> nn.Module:
        size = {"vocab_size": len(WORDS), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            config = LlamaConfig(**size, **special, intermediate_size=64, initializer_range=0.2)
            return LlamaForCausalLM(config).eval()

    def weights(self) -> Weights:
        return Weights(self.checkpoint or "toy", "random", "")

    def tokenizer(self) -> PreTrainedTokenizerFast:
        return toy_decoder_tokenizer()

    def vocabulary(self) -> int:
        return len(self.tokenizer())

    def max_length(self) -> int:
        return 64


@dataclass(frozen=True)
class ToyInstructions(Task):
    """Sentences of different lengths that are to be summed up: "it was good", or bad, whichever word is in them."""

    examples: int = 48

    modality: ClassVar[str] = "instruction"
    presets: ClassVar[dict[str, Preset]] = {
        "quick": Preset(protocol={"epochs": 3, "batch_size": 8}, methods=("untuned", "zero_gated"), seeds=2)
    }

    def datasets(self) -> Sequence[str]:
        return ("summaries",)

    def load(self, dataset: str) -> Data:
        train, validation, test, shifted = (self._split(seed) for seed in range(4))
        return Data(dataset, [], train, validation, test, "written", f"{self.examples}", shifted={"unseen": shifted})

    def objective(self, dataset: str, classes: Sequence[str]) -> Responses:
        return Responses(max_new_tokens=4)

    def windows(self, backbone: LanguageBackbone) -> Callable[[Instruction, Sequence[str]], list[Window]]:
        return windows_of(backbone.tokenizer(), "{instruction} end", max_length=32, refuse_overlong=True)

    def _split(self, seed: int) -> Split:
        texts = ToyTexts(examples=self.examples)._split(seed)
        examples = [Instruction(text, name=name) for text, name in zip(texts.examples, texts.names, strict=True)]
        return Split(examples, [(f"it was {('bad', 'good')[target]}",) for target in texts.targets], texts.names)


TINY_CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": SIZE, "patch_size": 4, "width": 32, "head_width": 16, "layers": 2},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@cache
def toy_clip_tokenizer() -> open_clip.SimpleTokenizer:
    return open_clip.SimpleTokenizer(context_length=16)


@dataclass(frozen=True)
class ToyCLIP(CLIP):
    """A CLIP of two narrow blocks a tower with random weights."""

    def build(self) -> nn.Module:
        model = create(TINY_CLIP)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for name, parameter in model.named_parameters():  # as large as a trained model's
                if parameter.dim() > 1:
                    nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
                elif name.endswith("bias"):
                    nn.init.normal_(parameter, std=0.1)
        return ZeroShotCLIP(model)

    def weights(self) -> Weights:
        return Weights(self.checkpoint or "toy", "random", "")

    def preprocess(self) -> Callable[[Image | Tensor], Tensor]:
        transform = open_clip.image_transform(SIZE, is_train=False)
        return lambda image: image if isinstance(image, Tensor) else transform(image)

    def tokenizer(self) -> Any:
        return toy_clip_tokenizer()


@dataclass(frozen=True)
class ToyPictures(Task):
    """The pictures of ``ToyTask``, matched with the names of their colours."""

    examples: int = 48

    modality: ClassVar[str] = "image-text"
    presets: ClassVar[dict[str, Preset]] = {
        "quick": Preset(protocol={"epochs": 3, "batch_size": 8}, methods=("untuned", "coop", "zero_gated"), seeds=2)
    }

    def datasets(self) -> Sequence[str]:
        return ("colours",)

    def load(self, dataset: str) -> Data:
        return ToyTask(examples=self.examples).load(dataset)

    def objective(self, dataset: str, classes: Sequence[str]) -> Matching:
        return Matching()

    def encoder(self, backbone: CLIP) -> Callable[[Tensor], Tensor]:
        return backbone.preprocess()


@dataclass(frozen=True)
class ToyVLM(VLM):
    """The LLaMA of the toys, which is shown images through their ViT."""

    language: str = "toy_instruct"
    vision: str = "toy"
    image_size: int = SIZE

    @property
    def decoder(self) -> LanguageBackbone:
        return ToyDecoder(pretrained=self.pretrained)

    @property
    def image_backbone(self) -> ImageBackbone:
        return ToyViT(pretrained=self.pretrained)


@dataclass(frozen=True)
class ToyVQA(VQATask):
    """Whether a film was good, bad or so: the bright channel of a picture says it, or words where there is none."""

    max_length: int = 48
    max_new_tokens: int = 4
    examples: int = 48

    presets: ClassVar[dict[str, Preset]] = {
        "quick": Preset(protocol={"epochs": 3, "batch_size": 8}, methods=("untuned", "zero_gated"), seeds=2)
    }

    def datasets(self) -> Sequence[str]:
        return ("films",)

    def load(self, dataset: str) -> Data:
        splits = {name: self._asked(name, seed) for seed, name in enumerate(("train", "validation", "test"))}
        return vqa_data(dataset, splits, limits=self.limits(), seed=self.split_seed, source="drawn")

    def _asked(self, split: str, seed: int) -> list[Asked]:
        images = ToyTask(examples=self.examples)._split(seed)
        options = ("good", "bad", "so")
        asked = []
        for name, image, index in zip(images.names, images.examples, images.targets, strict=True):
            picture = Picture(f"toy {name}", partial(to_pil_image, (image / 4 + 0.5).clamp(0, 1)))
            told = int(name.partition("/")[2]) % 4 == 0
            context = f"a very {options[index]} film" if told else ""
            question = VisualQuestion("was the film so", options, None if told else picture, context, f"{split} {name}")
            groups = ("told",) if told else ("shown",)
            asked.append((question, Answer(index, options, groups, asked=question.question)))
        return asked


TOYS = {
    "toy": (ToyViT, ToyTask),
    "toy_text": (ToyEncoder, ToyTexts),
    "toy_instruct": (ToyDecoder, ToyInstructions),
    "toy_image_text": (ToyCLIP, ToyPictures),
    "toy_vlm": (ToyVLM, ToyVQA),
}


@contextmanager
def registered() -> Iterator[None]:
    """Make the toys known in this process: "toy" those on images, "toy_text" those on text, "toy_instruct" those on
    instructions, "toy_image_text" those on images and the names of their classes, "toy_vlm" those on questions on
    images."""
    for name, (backbone, task) in TOYS.items():
        registry.backbones.register(name, backbone)
        registry.tasks.register(name, task)
    try:
        yield
    finally:
        for name in TOYS:
            registry.backbones.unregister(name)
            registry.tasks.unregister(name)


def split_of(data: Data, name: str) -> Split:
    """Return a split of a data set; the test split as a run that has made its choice gets it."""
    if name != "test":
        return getattr(data, name)
    key = TestKey("a test of zipeft")
    key.chosen("nothing is left to choose")
    return data.test.open(key)
