"""The model under test: found, checked, loaded, and described.

Two steps, so that what is wrong is said before a claim runs and what is slow is done once: `prepare` looks at files, tokenizer,
names, card and memory; `load` boots the model.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import psutil
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuit_claims.cards.card import Card, CardError
from circuit_claims.engine.protocol import Engine
from circuit_claims.engine.run import MEMORY_CAP, Run
from circuit_claims.models.checkpoint import BUFFERS, headers, some_of, weight_files
from circuit_claims.models.folder import ModelFolder
from circuit_claims.models.loading_guard import nothing_installed_or_downloaded
from circuit_claims.models.subject_error import SubjectError
from circuit_claims.prompts.templates import longest_text
from circuit_claims.subjects.card_choice import card_for, no_card
from circuit_claims.subjects.docstrings import refuse_stripped_docstrings
from circuit_claims.subjects.engine_choice import Choice, choose_engine
from circuit_claims.subjects.faithful_boot import boot, context_of, embedded, load_config, make_empty
from circuit_claims.subjects.find import find_folder
from circuit_claims.subjects.run_cache import RunCache, capacity
from circuit_claims.subjects.tokenizer import begins_with_bos, load_tokenizer, names_for
from circuit_claims.time_spent import spent_on
from circuit_claims.untested import Untested

if TYPE_CHECKING:  # slow to import
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Settings:
    """What the command line says of the subject.

    prepend_bos: whether prompts begin with BOS; None for what the tokenizer itself does.
    """

    name: str
    card: str | None = None
    device: str = "auto"
    dtype: str = "float32"
    mode: str = "processed"
    prepend_bos: bool | None = None
    names_file: str | None = None
    max_memory: int = MEMORY_CAP


@dataclass(frozen=True)
class Prepared:
    """A subject whose files are in order, not yet loaded.

    prepend_bos: whether its prompts begin with BOS: as the settings say, or else as its tokenizer does. about_names:
    a line about those that its tokenizer cannot carry.
    """

    settings: Settings
    folder: ModelFolder
    card: Card
    tokenizer: Any
    prepend_bos: bool
    names: tuple[str, ...]
    device: torch.device
    dtype: torch.dtype
    about_names: str = ""


@spent_on("looking at the subject's files")
def prepare(settings: Settings) -> Prepared:
    """Check everything that can be wrong with a subject.

    Raises SubjectError, with one sentence for the user.
    """
    refuse_stripped_docstrings()
    device, dtype = _device(settings.device), getattr(torch, settings.dtype)
    folder = find_folder(settings.name)
    with nothing_installed_or_downloaded(folder.name):
        return _prepared(settings, folder, device, dtype)


def _prepared(settings: Settings, folder: ModelFolder, device: torch.device, dtype: torch.dtype) -> Prepared:
    card = _card(settings, folder)
    tokenizer = load_tokenizer(folder)
    prepend_bos = begins_with_bos(tokenizer, folder) if settings.prepend_bos is None else settings.prepend_bos
    if prepend_bos and tokenizer.bos_token_id is None:
        raise SubjectError(f"the tokenizer of {folder.name} has no BOS token: run with --bos no")
    in_use = names_for(tokenizer, settings.names_file)
    _fits(folder, tokenizer, prepend_bos)
    _memory(folder, device, dtype)
    return Prepared(settings, folder, card, tokenizer, prepend_bos, in_use.names, device, dtype, in_use.remark)


class Subject:
    """A loaded model with its tokenizer, its card and its provenance."""

    @spent_on("loading the subject")
    def __init__(self, prepared: Prepared) -> None:
        """Boot the model.

        Raises SubjectError where the weights do not fit the configuration, or where what runs is not the model that was loaded.
        """
        self.settings, self.card, self.tokenizer = prepared.settings, prepared.card, prepared.tokenizer
        self.name, self.names, self.prepend_bos = prepared.folder.name, prepared.names, prepared.prepend_bos
        self.device, self.dtype, self.mode = prepared.device, prepared.dtype, prepared.settings.mode
        self.weights_sha256, self.n_parameters = prepared.folder.sha256(), prepared.folder.n_parameters
        with nothing_installed_or_downloaded(self.name):
            self.bridge, self._reference = boot(prepared.folder.path, self.tokenizer, self.device, self.dtype, self.mode)
        self.runs = RunCache(capacity(self.device))

    @cached_property
    def choice(self) -> Choice:
        """The engine, and why it is this one."""
        return choose_engine(self.bridge, self._reference, dtype=self.dtype, max_memory=self.settings.max_memory)

    @property
    def transformer(self) -> Engine:
        """The engine for interventions.

        Raises Untested where a forward pass cannot be taken apart.
        """
        if self.choice.engine is None:
            raise Untested(
                f"interventions know no way to take a forward pass of {self.name} apart ({self.choice.why}): "
                "claims of behaviour still run"
            )
        return self.choice.engine

    @torch.inference_mode()
    def run(self, tokens: Int[Tensor, "prompt pos"]) -> Run:
        """The forward pass over prompts of one length, from the session's cache where it has been made before."""
        return self.runs.get(tokens, self.transformer.run)

    @torch.inference_mode()
    def last_logits(self, tokens: Int[Tensor, "prompt pos"]) -> Float[Tensor, "prompt d_vocab"]:
        """Logits at the last position, through the engine where it knows the model and else through the bridge itself."""
        if (engine := self.choice.engine) is not None:
            return engine.logits(self.run(tokens).resid[-1][:, -1]).float()
        return torch.cat([self.bridge(part, prepend_bos=False)[:, -1].float() for part in tokens.split(32)])

    def top_tokens(self, text: str, *, prepend_bos: bool, k: int = 5) -> list[tuple[str, float]]:
        """The k likeliest next tokens of a prompt, with their probabilities."""
        ids = self.tokenizer(text, add_special_tokens=False).input_ids
        ids = ([self.tokenizer.bos_token_id] if prepend_bos else []) + ids
        best = self.last_logits(torch.tensor([ids], device=self.device))[0].softmax(-1).topk(k)
        return [(self.tokenizer.decode([i]), float(p)) for p, i in zip(best.values, best.indices, strict=True)]

    def facts(self) -> dict[str, Any]:
        """What every row says of the subject."""
        return {"subject": self.name, "weights_sha256": self.weights_sha256, "mode": self.mode, "versions": versions()}


def versions() -> dict[str, str]:
    """The versions of the libraries that the numbers depend on."""
    packages = ("torch", "transformer-lens", "transformers", "hypothesis", "scipy", "numpy", "pytest")
    return {name: _version(name) for name in packages}


@cache
def _version(package: str) -> str:
    """Read once: every row has it, and reading a package's metadata takes milliseconds."""
    from importlib.metadata import version

    return version(package)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SubjectError(f"{name!r} is not a device: use cpu, cuda, cuda:1 or auto") from error
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if device.type not in {"cpu", "cuda", getattr(accelerator, "type", "cpu")}:
        raise SubjectError(f"there is no device {name} here: use cpu, cuda, cuda:1 or auto")
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise SubjectError(f"there is no device {name} here ({torch.cuda.device_count()} CUDA devices): use --device cpu")
    return device


def _card(settings: Settings, folder: ModelFolder) -> Card:
    try:
        card = card_for(settings.name, settings.card)
    except CardError as error:
        raise SubjectError(str(error)) from error
    # Each architecture calls these by names of its own, which its configuration class knows.
    config = load_config(folder.path)
    layers, heads = getattr(config, "num_hidden_layers", None), getattr(config, "num_attention_heads", None)
    if card is None:
        return Card.none(layers or 0, heads or 0, no_card(settings.name, settings.card))
    if (layers, heads) != (card.n_layers, card.n_heads):
        raise SubjectError(
            f"the card {card.name!r} is of a model of {card.n_layers} layers and {card.n_heads} heads, "
            f"and {folder.name} has {layers} and {heads}: name the right card with --card, or none with --card none"
        )
    return card


def _fits(folder: ModelFolder, tokenizer: Any, prepend_bos: bool) -> None:
    """Compare the weights' headers with what config.json makes (without memory for it): before any process loads a model."""
    weight_files(folder.path, folder.config)  # those that transformers reads are there
    config = load_config(folder.path)
    model = make_empty(folder.path, config)
    if config.model_type == "gpt2":
        # Others may keep their weights under other names than they use: for these, loading will tell.
        _fits_gpt2(folder, model)
    vocabulary = embedded(model)
    if len(tokenizer) > vocabulary:
        raise SubjectError(
            f"the tokenizer in {folder.path} has {len(tokenizer)} tokens, and the model knows {vocabulary}: "
            "restore the two from one model"
        )
    context = context_of(config)
    longest = len(tokenizer(longest_text(), add_special_tokens=False).input_ids) + int(prepend_bos)
    if context is not None and context < longest:
        raise SubjectError(
            f"{folder.name} reads {context} tokens at most, and prompts have up to {longest}: name a model of a longer context"
        )


def _fits_gpt2(folder: ModelFolder, model: "PreTrainedModel") -> None:
    prefix, head = model.base_model_prefix + ".", "lm_head.weight"
    wanted = {key.removeprefix(prefix): tuple(weight.shape) for key, weight in model.named_parameters(remove_duplicate=False)}
    found = {key.removeprefix(prefix): tensor.shape for key, tensor in headers(folder.weights).items()}
    if model.config.tie_word_embeddings and not (head in found and "wte.weight" in found):
        # One of the two stands for both.
        found = {"wte.weight" if key == head else key: shape for key, shape in found.items()}
        wanted.pop(head, None)
    found = {key: shape for key, shape in found.items() if not BUFFERS.search(key)}
    wrong = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
    if wrong:
        raise SubjectError(
            f"the weights in {folder.path} do not fit its config.json ({some_of(wrong)}): restore the two from one model"
        )


def _memory(folder: ModelFolder, device: torch.device, dtype: torch.dtype) -> None:
    """The weights once as loaded and once as processing copies them, and half a gigabyte for activations."""
    needed = 2.5 * folder.n_parameters * dtype.itemsize + 5e8
    there = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if needed > there:
        raise SubjectError(
            f"{folder.name} needs about {needed / 1e9:.1f} GB on {device} and {there / 1e9:.1f} GB are free: "
            "free some, or take --dtype bfloat16, or another --device"
        )
