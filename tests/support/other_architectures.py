"""Tiny random checkpoints of decoders that are not of GPT-2's shape, with the embedded model's tokenizer; and plain loops."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file, save_file

from circuit_claims.engine.decoder.module_decoder import ModuleDecoder
from circuit_claims.engine.edits import Edit, Site
from circuit_claims.engine.hooked.decoder import HookedDecoder
from circuit_claims.engine.hooked.passes import HOOKS
from circuit_claims.models.folder import EMBEDDED
from circuit_claims.subjects import engine_choice
from circuit_claims.subjects.subject import Settings, Subject, prepare
from tests.conftest import HEADS, LAYERS
from tests.support.tiny_models import N_POSITIONS, TOKENIZER_FILES, save_tiny_card

#: What makes each of them unlike GPT-2, by the name that tests call it.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "NeoX": ("GPTNeoXConfig", {"rotary_pct": 0.25, "use_parallel_residual": True}),
    "sequential NeoX": ("GPTNeoXConfig", {"rotary_pct": 0.5, "use_parallel_residual": False}),
    "Llama": ("LlamaConfig", {"num_key_value_heads": 2}),
    "Qwen3": ("Qwen3Config", {"num_key_value_heads": 2, "head_dim": 12}),
    "Mistral": ("MistralConfig", {"num_key_value_heads": 1, "sliding_window": 6}),
    "Gemma2": ("Gemma2Config", {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 6, "query_pre_attn_scalar": 8}),
    "Olmo2": ("Olmo2Config", {"num_key_value_heads": 4}),
    "Granite": ("GraniteConfig", {"num_key_value_heads": 2, "residual_multiplier": 0.5, "logits_scaling": 2.0}),
    "Phi": ("PhiConfig", {"partial_rotary_factor": 0.5}),
    "GPT-J": ("GPTJConfig", {"rotary_dim": 4}),
    "OPT": ("OPTConfig", {"word_embed_proj_dim": 32}),
    "Bloom": ("BloomConfig", {}),
}
#: Those of which everything is tested: with rotary positions on part of a head, attention and MLP side by side; the same, one
#: after the other; with grouped keys and values, RMS norm and gated MLP; with queries and keys normed besides; with one key for
#: all heads and a sliding window; with norms after attention and MLP.
TESTED = ("NeoX", "sequential NeoX", "Llama", "Qwen3", "Mistral", "Gemma2")
#: Of these, each head has a key and a value of its own.
UNGROUPED = ("NeoX", "sequential NeoX")


def save_tiny_decoder(
    folder: Path, architecture: str, *, n_layer: int = 3, n_head: int = 4, width: int = 32, seed: int = 0
) -> Path:
    """Write a random model of this architecture, and give back its folder.

    As for `save_tiny_gpt2`, weights are scaled by their fan-in, and biases and norms' gains vary, so that attention is not
    uniform and no two heads are the same.
    """
    import transformers

    kind, more = ARCHITECTURES[architecture]
    vocabulary = json.loads((EMBEDDED["mini"] / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    shape = {
        "hidden_size": width,
        "num_hidden_layers": n_layer,
        "num_attention_heads": n_head,
        "intermediate_size": 2 * width,
        "max_position_embeddings": N_POSITIONS,
    }
    if kind == "GPTJConfig":
        shape = {"n_embd": width, "n_layer": n_layer, "n_head": n_head, "n_positions": N_POSITIONS}
    elif kind == "BloomConfig":
        shape = {"hidden_size": width, "n_layer": n_layer, "n_head": n_head}
    elif kind == "OPTConfig":
        shape["ffn_dim"] = shape.pop("intermediate_size")
    special = {"bos_token_id": vocabulary["<|endoftext|>"], "eos_token_id": vocabulary["<|endoftext|>"]}
    special["pad_token_id"] = vocabulary["<pad>"]
    config = getattr(transformers, kind)(vocab_size=len(vocabulary), **shape, **special, **more)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if weight.ndim == 2:
                embedding = 2.0 if "embed" in name or name.endswith("wte.weight") else 1.0
                weight.copy_(noise * embedding / weight.shape[1] ** 0.5)
            else:
                weight.copy_(noise * 0.1 + (1.0 if name.endswith("weight") else 0.0))
    model.save_pretrained(folder)
    for name in TOKENIZER_FILES:
        shutil.copy(EMBEDDED["mini"] / name, folder / name)
    return folder


class Decoder(NamedTuple):
    """A subject of another architecture, and a twin of it in which every head has its own key and value."""

    name: str
    subject: Subject
    ungrouped: Subject
    model: ModuleDecoder | HookedDecoder

    @property
    def bridge(self):
        return self.subject.bridge

    def entry(self, head: int, which: str) -> int:
        """Where a head's query stands, or its group's key or value."""
        return head if which == "q" else head // self.model.group


def only_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let subjects be computed through hooks alone, as those are whose plan is not known."""
    monkeypatch.setattr(engine_choice, "ENGINES", (HookedDecoder,))


def engine_of(subject: Subject, kind: type[ModuleDecoder] | type[HookedDecoder]) -> ModuleDecoder | HookedDecoder:
    """An engine of this kind around a subject, compared with its bridge as it is on loading."""
    engine = kind(subject.bridge, subject.settings.max_memory)
    with torch.inference_mode():
        engine.check_against(subject.bridge, torch.arange(2, 10)[None], 1e-3)
    return engine


def rows_through_mlps(model: ModuleDecoder, function: Callable[[], object]) -> dict[int, int]:
    """How many rows of the stream go through each layer's MLP while something is computed."""
    found: dict[int, int] = {}
    mlp = model._mlp

    def counting(layer: int, rows: torch.Tensor) -> torch.Tensor:
        found[layer] = found.get(layer, 0) + len(rows)
        return mlp(layer, rows)

    with mock.patch.object(model, "_mlp", counting):
        function()
    return found


def ungrouped_copy(folder: Path, to: Path) -> Path:
    """The same model with each group's key and value written out for every head of the group: the same function of tokens."""
    shutil.copytree(folder, to)
    config = json.loads((folder / "config.json").read_text())
    heads, groups = config["num_attention_heads"], config.get("num_key_value_heads", config["num_attention_heads"])
    (to / "config.json").write_text(json.dumps(config | {"num_key_value_heads": heads}))
    state = load_file(folder / "model.safetensors")
    for key, weight in state.items():
        if key.endswith(("k_proj.weight", "v_proj.weight")):
            by_group = weight.view(groups, -1, weight.shape[1])
            state[key] = by_group.repeat_interleave(heads // groups, 0).reshape(-1, weight.shape[1]).contiguous()
    save_file(state, to / "model.safetensors", metadata={"format": "pt"})
    return to


def load(folder: Path, mode: str) -> Subject:
    card = save_tiny_card(folder.parent / "card.toml", n_layer=LAYERS, n_head=HEADS)
    return Subject(prepare(Settings(name=str(folder), card=str(card), mode=mode, device="cpu")))


def edits_from(cache, site: Site, positions, *, by_head: bool):
    """One intervention for each layer (and head): this site set to what it is in `cache`."""
    found = []
    for layer in range(LAYERS):
        value = cache[f"blocks.{layer}.{HOOKS[site]}"]
        for head in range(HEADS) if by_head else [None]:
            if site == "pattern":
                part = value[:, head] if by_head else value.transpose(1, 2)
            else:
                part = value[:, :, head] if by_head else value
            if positions is not None:
                part = part[torch.arange(len(part))[:, None], positions]
            found.append([Edit(layer, site, part, head, positions)])
    return found


def forward_with(bridge, tokens, cache, edits):
    """The slow twin: one full forward pass with hooks that set one position after the other. The logits at END."""

    def hook_for(edit):
        name = f"blocks.{edit.layer}.{HOOKS[edit.site]}"

        def hook(activation, hook):
            activation = activation.clone()
            for i in range(len(tokens)):
                for p in range(tokens.shape[1]) if edit.positions is None else edit.positions[i].tolist():
                    heads = ... if edit.head is None else edit.head
                    place = (i, heads, p) if edit.site == "pattern" else (i, p, heads)
                    if edit.site == "pattern" and edit.head is None:
                        place = (i, slice(None), p)
                    activation[place] = cache[name][place]
            return activation

        return name, hook

    return bridge.run_with_hooks(tokens, fwd_hooks=[hook_for(edit) for edit in edits], prepend_bos=False)[:, -1]


def cache_of(bridge, tokens):
    return bridge.run_with_cache(tokens, prepend_bos=False)[1]


def counted(modules: Any) -> tuple[list[int], Callable[[], None]]:
    """How often each of some modules is called from now on (read the list), and what ends the counting."""
    calls = [0] * len(modules)

    def counting(index: int) -> Callable[..., None]:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            calls[index] += 1

        return hook

    handles = [module.register_forward_hook(counting(index)) for index, module in enumerate(modules)]

    def end() -> None:
        for handle in handles:
            handle.remove()

    return calls, end


def save_as_opt(gpt2: Path, folder: Path) -> Path:
    """Write a GPT-2 as an OPT, and give back its folder: the same function of tokens, in another architecture's words."""
    import transformers

    config = json.loads((gpt2 / "config.json").read_text(encoding="utf-8"))
    state = {
        name.removeprefix("transformer."): weight.float() for name, weight in load_file(gpt2 / "model.safetensors").items()
    }
    width, special = config["n_embd"], ("bos_token_id", "eos_token_id", "pad_token_id")
    opt = transformers.OPTForCausalLM(
        transformers.OPTConfig(
            vocab_size=config["vocab_size"],
            max_position_embeddings=config["n_positions"],
            num_hidden_layers=config["n_layer"],
            num_attention_heads=config["n_head"],
            hidden_size=width,
            word_embed_proj_dim=width,
            ffn_dim=4 * width,
            activation_function=config["activation_function"],
            **{name: config.get(name) for name in special},
        )
    ).eval()
    new: dict[str, torch.Tensor] = {"embed_tokens.weight": state["wte.weight"]}
    # OPT counts positions from 2.
    new["embed_positions.weight"] = torch.cat([torch.zeros(2, width), state["wpe.weight"]])
    for kind in ("weight", "bias"):
        new[f"final_layer_norm.{kind}"] = state[f"ln_f.{kind}"]
        for layer in range(config["n_layer"]):
            here, there = f"h.{layer}", f"layers.{layer}"
            parts = state[f"{here}.attn.c_attn.{kind}"].split(width, dim=-1)
            for name, part in zip(("q_proj", "k_proj", "v_proj"), parts, strict=True):
                new[f"{there}.self_attn.{name}.{kind}"] = part.T if kind == "weight" else part
            linear = {"attn.c_proj": "self_attn.out_proj", "mlp.c_fc": "fc1", "mlp.c_proj": "fc2"}
            for old, name in linear.items():
                part = state[f"{here}.{old}.{kind}"]
                new[f"{there}.{name}.{kind}"] = part.T if kind == "weight" else part
            new[f"{there}.self_attn_layer_norm.{kind}"] = state[f"{here}.ln_1.{kind}"]
            new[f"{there}.final_layer_norm.{kind}"] = state[f"{here}.ln_2.{kind}"]
    missing, unexpected = opt.model.decoder.load_state_dict(new, strict=True)
    assert not missing and not unexpected
    opt.save_pretrained(folder)
    for name in TOKENIZER_FILES:
        shutil.copy(gpt2 / name, folder / name)
    return folder
