"""Adapters in other formats: the same function before and after, or a refusal in one line."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass

import pytest
import torch
from peft import AdaptionPromptConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from support.toys import ToyTask, ToyViT, registered, toy_tokenizer
from zipeft import registry
from zipeft.adapters.record import AdapterRecord
from zipeft.adapters.saved import load_adapter, read_record, save_adapter
from zipeft.api.learner import Learner
from zipeft.backbones.llama.backbone import Llama
from zipeft.commands.convert import main
from zipeft.commands.evaluate import main as evaluate
from zipeft.methods.zero_gated import ZeroGated
from zipeft.objectives.responses import Responses
from zipeft.registry import Named
from zipeft.splices import gated_prompts

DEPTH, LAYERS, LENGTH, HEADS, WIDTH = 4, 2, 5, 4, 32
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 8.0, "original_max_position_embeddings": 64}
IDS = torch.tensor([[1, 4, 5, 9, 10, 13], [1, 8, 6, 7, 9, 2]])


def narrow(folder, config=LlamaConfig, model=LlamaForCausalLM, **settings):
    """Save a narrow decoder of random weights, with a tokenizer, and return its folder."""
    size = {"hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": DEPTH, "num_attention_heads": HEADS}
    size |= {"num_key_value_heads": 2, "vocab_size": len(toy_tokenizer()), "max_position_embeddings": 512}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model(config(**size | settings, initializer_range=0.2)).save_pretrained(folder)
    tokenizer = copy.deepcopy(toy_tokenizer())
    tokenizer.eos_token = "end"
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return narrow(tmp_path_factory.mktemp("narrow"))


@pytest.fixture
def work(checkpoint, tmp_path):
    """Converts adapters of the narrow decoder in a folder, and makes some."""
    return Work(tmp_path, checkpoint)


@dataclass(frozen=True)
class Work:
    folder: str
    checkpoint: str

    @property
    def backbone(self):
        return ["--backbone", "llama", "--checkpoint", str(self.checkpoint)]

    def adapter(self, method=None, name="zero_gated", gates=None, **settings):
        """Save an adapter of zipeft with all that trains drawn at random, and return its folder."""
        backbone, task = Llama(checkpoint=str(self.checkpoint)), registry.tasks.get("instruct")()
        method = method or ZeroGated(**{"layers": LAYERS, "length": LENGTH} | settings)
        learner = learner_of(backbone, method)
        if gates is not None:
            with torch.no_grad():
                for prompt, gate in zip(gated_prompts(learner.model), gates, strict=True):
                    prompt.gate.copy_(torch.tensor(gate))
        parts = Named("llama", backbone), Named(name, method), Named("instruct", task)
        record = AdapterRecord.of(*parts, task.datasets()[0], [])
        return save_adapter(self.folder / f"adapter-{name}", learner, record)

    def convert(self, source, *options, out="converted"):
        assert main([str(source), "--out", str(self.folder / out), *options]) == 0
        return self.folder / out

    def back(self, source, *options):
        """Convert to an adapter of zipeft."""
        return self.convert(source, *self.backbone, *options, out="back")


def learner_of(backbone, method):
    model = backbone.build().requires_grad_(False)
    method.apply(backbone, model)
    torch.manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter)
    return Learner(backbone, model, torch.nn.Identity(), Responses().read).eval()


@torch.no_grad()
def logits(source):
    model = load_adapter(source)[0].model if not isinstance(source, torch.nn.Module) else source
    return model(input_ids=IDS).logits


def frozen(checkpoint):
    return Llama(checkpoint=str(checkpoint)).build()


def assert_same(one, other, exactly=False):
    assert (logits(one) - logits(frozen(read_record(one).backbone.settings["checkpoint"]))).abs().max() > 0.1
    assert torch.allclose(logits(one), logits(other), rtol=0, atol=0 if exactly else 1e-5)


def refusal(capsys, *arguments):
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


# --- LLaMA-Adapter ----------------------------------------------------------------------------------------------------

KINDS = [
    # gate, activation of the adapter, that of the code that reads the checkpoint, whether numbers stay as they are
    ("head", "tanh", "tanh", True),
    ("head", "tanh", "none", False),
    ("head", "none", None, True),
    ("layer", "none", None, True),
    ("layer", "tanh", None, False),
]


@pytest.mark.parametrize(("gate", "gate_activation", "reader", "exactly"), KINDS)
@pytest.mark.parametrize("layers", [LAYERS, DEPTH])
def test_to_llama_adapter_and_back(gate, gate_activation, reader, exactly, layers, work, capsys):
    source = work.adapter(gate=gate, gate_activation=gate_activation, layers=layers)
    out = work.convert(source, "--to", "llama-adapter", *(["--gate-activation", reader] if reader else []))
    state = torch.load(out / "adapter.pth", weights_only=True)
    assert state["adapter_query.weight"].shape == (layers * LENGTH, WIDTH)
    shape = (1, HEADS, 1, 1) if gate == "head" else (1,)
    assert [state[f"layers.{layer}.attention.gate"].shape for layer in range(DEPTH)] == [shape] * DEPTH
    assert len(state) == DEPTH + 1
    back = work.back(out / "adapter.pth", *(["--gate-activation", reader or "none"] if gate == "head" else []))
    assert f"{LENGTH} tokens in each of the top {layers} of {DEPTH} layers" in capsys.readouterr().out
    assert_same(source, back, exactly)


def published(path, gates, gate_activation=torch.tanh, layers=LAYERS, depth=DEPTH, dtype=torch.float16, **more):
    """Write a checkpoint as the layout has it, and return the values that count: prompts and effective gates."""
    torch.manual_seed(5)
    rows = torch.randn(layers * LENGTH, WIDTH).to(dtype)
    gates = [torch.randn(gates).to(dtype) * (layer >= depth - layers) for layer in range(depth)]
    state = {f"layers.{layer}.attention.gate": gate for layer, gate in enumerate(gates)}
    torch.save({"adapter_query.weight": rows} | state | more, path)
    return rows.float().split(LENGTH), [gate_activation(gate.float()).flatten() for gate in gates[-layers:]]


@pytest.mark.parametrize("shape", [(1, HEADS, 1, 1), (1,)])
@pytest.mark.parametrize("gate_activation", ["tanh", "none"])
def test_a_published_checkpoint_means_what_its_layout_says(shape, gate_activation, work):
    """The lowest prompt stands first, and head h of a gate is the model's head h: against the terms by formula."""
    path = work.folder / "published.pth"
    applied = torch.tanh if gate_activation == "tanh" else (lambda gate: gate)
    rows, gates = published(path, shape, applied)
    learner, record = load_adapter(work.back(path, "--gate-activation", gate_activation))
    assert record.method.settings["squash"] == gate_activation
    assert record.task.name == "instruct"
    assert record.origin == "llama-adapter: published.pth"
    model = learner.model
    seen = {}
    for layer in model.model.layers:
        attention = layer.self_attn
        attention.o_proj.register_forward_hook(lambda part, args, _: seen.update({part: args[0]}))
    logits(model)
    attention = model.model.layers[DEPTH - LAYERS].self_attn  # below it nothing differs from the frozen model
    spliced = seen[attention.o_proj]
    plain = frozen(work.checkpoint)
    plain_attention = plain.model.layers[DEPTH - LAYERS].self_attn
    inputs = {}
    plain_attention.register_forward_pre_hook(lambda _, args, kwargs: inputs.update(kwargs), with_kwargs=True)
    plain_attention.o_proj.register_forward_hook(lambda part, args, _: inputs.update(result=args[0]))
    logits(plain)
    term = gated_term(plain_attention, inputs, rows[0], gates[0])
    assert torch.allclose(spliced, inputs["result"] + term, rtol=0, atol=1e-5)
    assert term.abs().max() > 0.1


@torch.no_grad()
def gated_term(attention, inputs, prompt, gate):
    """The gated term of one layer of a LLaMA, head by head: gate * softmax(q k^T / sqrt(d)) v, before o_proj."""
    hidden, (cos, sin) = inputs["hidden_states"], inputs["position_embeddings"]
    width = attention.head_dim
    queries = attention.q_proj(hidden).unflatten(-1, (HEADS, width))
    keys, values = (part(prompt).unflatten(-1, (-1, width)) for part in (attention.k_proj, attention.v_proj))
    terms = []
    for head in range(HEADS):
        query, shared = queries[:, :, head], head // attention.num_key_value_groups
        left, right = query.chunk(2, dim=-1)
        query = query * cos + torch.cat([-right, left], dim=-1) * sin
        weights = torch.softmax(query @ keys[:, shared].T / width**0.5, dim=-1)
        terms.append(gate[head % len(gate)] * (weights @ values[:, shared]))
    return torch.cat(terms, dim=-1)


def test_one_gate_a_layer_goes_without_tanh_unless_it_is_asked_for(work):
    published(work.folder / "first.pth", (1,))
    assert read_record(work.back(work.folder / "first.pth")).method.settings["squash"] == "none"


def test_the_length_can_be_given_where_no_gate_tells_it(work, capsys):
    path = work.folder / "untrained.pth"
    published(path, (1,))
    state = torch.load(path, weights_only=True)
    torch.save({name: tensor * ("query" in name) for name, tensor in state.items()}, path)
    said = refusal(capsys, path, *work.backbone, "--out", work.folder / "back")
    assert "all gates are 0): give --length" in said
    assert load_adapter(work.back(path, "--length", "10"))[1].method.settings["layers"] == 1


def edit(change):
    """A damage to a checkpoint: a change of its state."""

    def damage(path):
        state = torch.load(path, weights_only=True)
        change(state)
        torch.save(state, path)

    return damage


LOWEST, TOP = "layers.2.attention.gate", "layers.3.attention.gate"
QUERY = "adapter_query.weight"


@pytest.mark.parametrize(
    ("damage", "options", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:700]), (), "published.pth' cannot be read"),
        (lambda path: path.write_bytes(b"text"), (), "cannot be read"),
        (lambda path: path.unlink(), (), "is no adapter"),
        (edit(lambda state: state.pop(QUERY)), (), "it has no table adapter_query.weight"),
        (edit(lambda state: state.update({QUERY: torch.zeros(LENGTH)})), (), "it has no table"),
        (edit(lambda state: [state.pop(name) for name in list(state) if "gate" in name]), (), "has no layers.N"),
        (edit(lambda state: state.pop(LOWEST)), (), "lacks layers.2.attention.gate"),
        (edit(lambda state: state.pop(TOP)), ("--length", LENGTH), "of layers 3; that of the backbone is 4"),
        (edit(lambda state: state.update(lora=torch.zeros(1))), (), "also holds 'lora', which would be lost"),
        (edit(lambda state: state.update({QUERY: torch.zeros(0, WIDTH)})), (), "it has no table"),
        (edit(lambda state: state.update({TOP.replace("3", "999999999"): state.pop(TOP)})), (), "also holds"),
        (edit(lambda state: state.update({TOP.replace("3", "9999"): state.pop(TOP)})), (), "lacks layers.3."),
        (edit(lambda state: state.update({TOP.replace("3", "03"): state[TOP]})), (), "also holds"),
        (edit(lambda state: state.update({TOP: state[TOP].double() * 1e300})), (), "are not finite in float32"),
        (edit(lambda state: state.update({QUERY: torch.ones(1).expand(10**12, WIDTH)})), (), "larger than the file"),
        (edit(lambda state: state.update({LOWEST: state[LOWEST] * 0})), (), "10 or 5 tokens fit, as gates of lower"),
        (edit(lambda state: state.update({TOP: torch.zeros(1)})), (), "more than one shape"),
        (edit(lambda state: state.update({TOP: torch.zeros(HEADS)})), (), "a gate is (1,) or (1, heads, 1, 1)"),
        (edit(lambda state: state.update({TOP: torch.full((1, HEADS, 1, 1), torch.nan)})), (), "are not finite"),
        (edit(lambda state: state.update(epoch=3)), (), "holds no state dict"),
        (lambda path: published(path, (1, 8, 1, 1)), (), "of heads 8; that of the backbone is 4"),
        (lambda path: published(path, (1, HEADS, 1, 1), depth=6), ("--length", LENGTH), "of layers 6; that of"),
        (edit(lambda state: state.update({QUERY: torch.zeros(10, 16)})), (), "of hidden width 16; that of"),
        (None, ("--length", 4), "prompts of 4 tokens do not fit"),
        (None, ("--length", 1), "prompts of 1 tokens do not fit"),
        (None, ("--length", 10), "a gate in layer 2, but prompts of 10 tokens reach down to layer 3"),
        (None, ("--length", 0), "--length is a number from 1"),
    ],
)  # fmt: skip
def test_what_is_no_checkpoint_for_the_backbone_is_refused_in_one_line(damage, options, message, work, capsys):
    path = work.folder / "published.pth"
    published(path, (1, HEADS, 1, 1))
    if damage:
        damage(path)
    out = work.folder / "back"
    assert message in refusal(capsys, path, *work.backbone, "--gate-activation", "tanh", "--out", out, *options)
    assert not out.exists()


class Shell:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_code_in_a_checkpoint_is_not_run(work, capsys):
    path, mark = work.folder / "evil.pth", work.folder / "was-run"
    torch.save({QUERY: Shell(str(mark))}, path)
    assert "would run code" in refusal(capsys, path, *work.backbone, "--out", work.folder / "back")
    assert not mark.exists()


def test_what_the_code_does_to_gates_has_to_be_said_where_it_is_not_known(work, capsys):
    path = work.folder / "published.pth"
    published(path, (1, HEADS, 1, 1))
    out = ("--out", work.folder / "back")
    assert "give --gate-activation tanh (the published training code), or --gate-activation none" in refusal(
        capsys, path, *work.backbone, *out
    )
    assert "give --gate-activation tanh" in refusal(capsys, work.adapter(), "--to", "llama-adapter", *out)
    without = work.adapter(gate_activation="none", gate="layer")
    assert "applies no tanh" in refusal(capsys, without, "--to", "llama-adapter", "--gate-activation", "tanh", *out)


# --- peft -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [LAYERS, DEPTH])
@pytest.mark.parametrize(
    ("settings", "gates", "said"),
    [
        ({"gate": "layer", "gate_activation": "none"}, None, ""),
        ({"gate": "layer", "gate_activation": "tanh"}, None, "a gate is stored as its tanh"),
        ({"gate": "head", "gate_activation": "none"}, 0.7, "the gates of a layer's heads are equal"),
        ({"gate": "head", "gate_activation": "tanh"}, -0.4, "the gates of a layer's heads are equal"),
    ],
    ids=["plain", "tanh", "heads", "heads, tanh"],
)
def test_to_peft_and_back(settings, gates, said, layers, work, capsys):
    gates = gates and [[gates + 0.1 * layer] * HEADS for layer in range(layers)]
    source = work.adapter(layers=layers, gates=gates, **settings)
    out = work.convert(source, "--to", "peft")
    assert said in capsys.readouterr().out
    assert_same(source, PeftModel.from_pretrained(frozen(work.checkpoint), out))
    assert_same(source, work.back(out), exactly=settings == {"gate": "layer", "gate_activation": "none"})
    assert "it says" not in capsys.readouterr().out  # it was made for the very model that it has joined again


def test_the_files_are_those_that_peft_writes(work):
    model = PeftModel.from_pretrained(frozen(work.checkpoint), exported(work))
    model.save_pretrained(work.folder / "theirs")
    ours, theirs = (load_file(work.folder / name / "adapter_model.safetensors") for name in ("converted", "theirs"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    configs = [
        json.loads((work.folder / name / "adapter_config.json").read_bytes()) for name in ("converted", "theirs")
    ]
    assert configs[0] == configs[1]


def exported(work):
    return work.convert(work.adapter(gate="layer", gate_activation="none"), "--to", "peft")


def test_a_pickled_peft_adapter_and_another_base_model(work, capsys):
    model = get_peft_model(
        frozen(work.checkpoint),
        AdaptionPromptConfig(adapter_len=LENGTH, adapter_layers=LAYERS),
    )
    for name, parameter in model.named_parameters():
        if name.endswith("adaption_gate"):
            torch.nn.init.normal_(parameter)
    folder = work.folder / "theirs"
    model.save_pretrained(folder)
    tensors = load_file(folder / "adapter_model.safetensors")
    torch.save(dict(reversed(tensors.items())), folder / "adapter_model.bin")  # in whatever order
    (folder / "adapter_model.safetensors").unlink()
    edit_config(base_model_name_or_path="owner/other")(folder)
    back = work.back(folder)
    assert "it was made for owner/other, and has joined" in capsys.readouterr().out
    assert_same(back, model)


def test_what_peft_cannot_say_is_refused(work, capsys):
    source = work.adapter(gate_activation="tanh", gates=[[0.5] * HEADS, [0.1, 0.1, 0.1, 0.4]])
    said = refusal(capsys, source, "--to", "peft", "--out", work.folder / "out")
    assert "one gate a layer, but those of the heads in layer 3 differ (0.0997 to 0.38)" in said
    assert not (work.folder / "out").exists()


def edit_tensors(change):
    def damage(folder):
        tensors = load_file(folder / "adapter_model.safetensors")
        change(tensors)
        save_file(tensors, folder / "adapter_model.safetensors")

    return damage


def edit_config(**changes):
    def damage(folder):
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))

    return damage


PREFIX = "base_model.model.model.layers.3.self_attn.adaption_"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "is no config"),
        (lambda folder: (folder / "adapter_config.json").write_text("[]"), "is no config"),
        (edit_config(peft_type="LORA"), "of peft's LORA: only those of ADAPTION_PROMPT"),
        (edit_config(adapter_len=None), "are numbers from 1"),
        (edit_config(adapter_layers=0), "are numbers from 1"),
        (edit_config(adapter_layers=True), "are numbers from 1"),
        (edit_config(adapter_layers=10**12), "has not the prompts and gates of 1,000,000,000,000 top layers"),
        (edit_config(base_model_name_or_path=[]), "base_model_name_or_path is a name"),
        (lambda folder: (folder / "adapter_config.json").write_text("[" * 100_000), "nested too deeply"),
        (edit_tensors(lambda tensors: tensors.update({PREFIX + "prompt": torch.tensor(1.0)})), "has not prompts of"),
        (edit_tensors(lambda tensors: tensors.update({f"x.{PREFIX}gate": torch.ones(1)})), "two adaption prompts"),
        (edit_config(adapter_layers=3), "has not the prompts and gates of 3 top layers"),
        (edit_config(adapter_len=4), "has not prompts of (1, 4, width)"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "adapter_model.safetensors' cannot be read"),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"\0" * 99), "cannot be read"),
        (edit_tensors(lambda tensors: tensors.pop(PREFIX + "gate")), "has not the prompts and gates of 2"),
        (edit_tensors(lambda tensors: tensors.clear()), "has not the prompts and gates of 2"),
        (edit_tensors(lambda tensors: tensors.update({PREFIX + "gate": torch.zeros(4)})), "gates of (1,)"),
        (edit_tensors(lambda tensors: tensors.update({PREFIX + "prompt": torch.zeros(3, 32)})), "has not prompts of"),
        (edit_tensors(lambda tensors: tensors.update(lm_head=torch.zeros(1))), "'lm_head', which is no adaption"),
    ],
)  # fmt: skip
def test_a_damaged_peft_adapter_is_refused_in_one_line(damage, message, work, capsys):
    folder = exported(work)
    damage(folder)
    assert message in refusal(capsys, folder, *work.backbone, "--out", work.folder / "back")
    assert not (work.folder / "back").exists()


def test_models_for_which_peft_computes_something_else_are_refused(work, tmp_path_factory, capsys):
    folder = exported(work)
    for other, message in (
        (narrow(tmp_path_factory.mktemp("biased"), attention_bias=True), "the bias of the output projection twice"),
        (narrow(tmp_path_factory.mktemp("yarn"), rope_parameters=YARN), "its prompts have another temperature"),
        (narrow(tmp_path_factory.mktemp("qwen"), Qwen2Config, Qwen2ForCausalLM), "not for qwen2"),
    ):
        options = ("--backbone", "llama", "--checkpoint", other, "--out", work.folder / "back")
        assert message in refusal(capsys, folder, *options)


# --- the command ------------------------------------------------------------------------------------------------------


def test_an_adapter_with_more_than_prompts_is_refused(work, capsys):
    with registered():
        backbone, task = ToyViT(), ToyTask()
        learner = learner_of(backbone, ZeroGated())
        learner.head = torch.nn.Linear(WIDTH, 3)
        parts = Named("toy", backbone), Named("zero_gated", ZeroGated()), Named("toy", task)
        record = AdapterRecord.of(*parts, "colours", list("abc"))
        folder = save_adapter(work.folder / "toy", learner, record)
        assert "head.weight was learnt" in refusal(capsys, folder, "--to", "peft", "--out", work.folder / "out")
    lora = work.adapter(registry.methods.get("lora")(), "lora")
    said = refusal(capsys, lora, "--to", "llama-adapter", "--out", work.folder / "out")
    assert "lora_A" in said
    assert "was learnt" in said


def test_a_task_with_a_head_is_refused(work, capsys):
    published(work.folder / "published.pth", (1,))
    options = (*work.backbone, "--out", work.folder / "back")
    with registered():
        said = refusal(capsys, work.folder / "published.pth", *options, "--task", "toy_text")
        assert "toy_text is a task on texts; the backbone takes instructions" in said
        registry.tasks.get("toy_text").modality = "instruction"
        try:
            said = refusal(capsys, work.folder / "published.pth", *options, "--task", "toy_text")
        finally:
            registry.tasks.get("toy_text").modality = "text"
    assert "has a head, which no other format holds" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["adapter", "--to", "zipeft"], "is in the format zipeft: convert it to peft or llama-adapter"),
        (["peft", "--to", "llama-adapter"], "is in the format peft: convert it to zipeft, not to llama-adapter"),
        (["peft"], "does not hold the model that it was made for: give --backbone"),
        (["peft", "--backbone", "llama", "--gate-activation", "tanh"], "peft applies nothing to a gate"),
        (["peft", "--backbone", "llama", "--length", "3"], "for a checkpoint of LLaMA-Adapter alone"),
        (["peft", "--backbone", "llama", "--set", "vit.x=1"], "there is no 'vit' here, only llama and instruct"),
        (["peft", "--backbone", "lama"], "unknown backbone 'lama'"),
        (["peft", "--backbone", "llama", "--task", "instrukt"], "unknown task 'instrukt'"),
        (["adapter", "--to", "peft", "--checkpoint", "x"], "--checkpoint needs --backbone"),
        (["nothing", "--to", "peft"], "is no adapter"),
        (["adapter", "--to", "peft", "--out", "peft"], "is there already"),
    ],
)
def test_bad_arguments_are_one_line(options, message, work, capsys, monkeypatch):
    monkeypatch.chdir(work.folder)
    for name, file in (("adapter", "adapter.json"), ("peft", "adapter_config.json")):
        (work.folder / name).mkdir()
        (work.folder / name / file).write_text("{}")
    arguments = options if "--out" in options else [*options, "--out", "out"]
    assert message in refusal(capsys, *arguments)


def test_a_converted_adapter_is_scored_like_any_other(work, capsys):
    data = work.folder / "data"
    data.mkdir()
    for split, word in (("train", "good"), ("validation", "bad"), ("test", "film")):
        record = {"instruction": f"it was {word}", "input": "", "output": "so good"}
        (data / f"{split}.json").write_text(json.dumps([record]))
    published(work.folder / "published.pth", (1,))
    settings = [f"instruct.data_dir={data}", "instruct.template={instruction}"]
    settings += ["instruct.max_length=64", "instruct.max_new_tokens=4"]
    back = work.back(work.folder / "published.pth", *(token for each in settings for token in ("--set", each)))
    capsys.readouterr()
    assert evaluate([str(back)]) == 0
    assert "1 test examples: answer_probability" in capsys.readouterr().out
