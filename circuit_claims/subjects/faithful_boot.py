"""The model as transformers loads it, and the bridge around it, compared before anything is measured.

TransformerLens computes attention by code of its own, processes weights by rules for each architecture, and does not compare
what comes of it with the model that it wraps. So log-probabilities of a few random tokens are held from before, and what runs
afterwards must give the same; else the run ends with a sentence that names the layer where the two part.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from circuit_claims.engine.streams import streams_before
from circuit_claims.models.checkpoint import refuse_unused, some_of
from circuit_claims.models.subject_error import SubjectError, first_line
from circuit_claims.subjects.causality import refuse_encoder, refuse_looking_ahead

if TYPE_CHECKING:  # slow to import
    from transformers import PreTrainedModel

#: What rounding may change in log-probabilities, by dtype: the root mean square over the vocabulary, as a share of their spread
#: (standard deviation) there. Found on random models of 3 to 30 layers, and on the embedded ones: up to 2e-5, 1e-6 (weights are
#: processed in float32), 0.08 and 0.014.
ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-4, torch.bfloat16: 0.25, torch.float16: 0.05}
#: Spreads below this, in nats, count as this: a model that predicts next to nothing is not compared by its last digits.
LEAST_SPREAD = 0.05
#: Rows of the comparison, and the tokens of each; with a sliding window of up to `WIDEST` tokens, some tokens more than it.
ROWS, LENGTH, WIDEST = 2, 12, 256
SEED = 0
#: How the text model's weights are called within a multimodal one, and how alone.
WITHIN = {
    r"^(model\.)?language_model\.model\.": "model.",
    r"^(model\.)?language_model\.lm_head\.": "lm_head.",
    r"^model\.language_model\.": "model.",
}
#: The parts of a multimodal model that no text goes through.
OTHER_SENSES = ("vision", "visual", "image", "audio", "multi_modal", "multimodal", "mm_", "embed_vision", "embed_audio")


@dataclass(frozen=True)
class Reference:
    """What the model gave as it was loaded.

    streams: the residual stream before each layer, and after the last; none where its layers could not be told.
    """

    tokens: Int[Tensor, "row pos"]
    log_probs: Float[Tensor, "row pos d_vocab"]
    streams: tuple[Float[Tensor, "row pos d_model"], ...]
    dtype: torch.dtype

    @classmethod
    @torch.no_grad()
    def of(cls, model: "PreTrainedModel", tokens: Int[Tensor, "row pos"]) -> "Reference":
        """Run the model on these tokens."""
        with streams_before(_layers(model)) as streams:
            log_probs = model(input_ids=tokens, use_cache=False).logits.float().log_softmax(-1)
        return cls(tokens, log_probs, tuple(streams), next(model.parameters()).dtype)

    def off(self, logits: Float[Tensor, "row pos d_vocab"]) -> float:
        """How far logits are from the model's, as a share of the spread of its log-probabilities; 0 where it has none."""
        there = self.log_probs.isfinite()
        theirs = self.log_probs.where(there, 0.0)
        ours = logits.float().log_softmax(-1).to(theirs.device).where(there, 0.0)
        spread = theirs.std(-1).clamp_min(LEAST_SPREAD)
        return float(((ours - theirs).pow(2).mean(-1).sqrt() / spread).max())

    def agrees(self, logits: Float[Tensor, "row pos d_vocab"]) -> bool:
        """Whether these logits are the model's, but for rounding."""
        return self.off(logits) <= ROUNDING[self.dtype]

    def parts_in(self, streams: Sequence[Float[Tensor, "row pos d_model"]]) -> str:
        """Where a pass with these streams begins to be another one: the embedding, a layer, or the unembedding.

        Means over d_model are taken out: processing takes them out of what is written.
        """
        if len(streams) != len(self.streams) or not streams:
            return "a place that cannot be told"
        for index, (ours, theirs) in enumerate(zip(streams, self.streams, strict=True)):
            ours, theirs = (stream.float() - stream.float().mean(-1, keepdim=True) for stream in (ours, theirs))
            limit = max(ROUNDING[self.dtype], 1e-3) * float(theirs.pow(2).mean().sqrt())
            if not float((ours.to(theirs.device) - theirs).pow(2).mean().sqrt()) <= limit:
                return "the embedding" if index == 0 else f"layer {index - 1}"
        return "the final norm or the unembedding"


def load_config(path: Path) -> Any:
    """The configuration of the language model in a folder: of its text model, where it has other senses besides.

    Raises SubjectError where config.json is none of a causal language model.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    try:
        whole = AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
        text = whole.get_text_config()
    except Exception as error:  # transformers raises many kinds here; the user can do one thing about all of them
        raise _no_model(path, error) from error
    if getattr(whole, "is_encoder_decoder", False):
        raise SubjectError(
            f"the model in {path} is an encoder with a decoder ({whole.model_type}), which reads two texts: name a causal "
            "language model, such as GPT-2 or Llama"
        )
    return text if text is not whole and type(text) in MODEL_FOR_CAUSAL_LM_MAPPING else whole


def make_empty(path: Path, config: Any) -> "PreTrainedModel":
    """The model of a configuration without memory for its weights.

    Raises SubjectError where there is none.
    """
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:  # as above
        raise _no_model(path, error) from error
    refuse_encoder(path, model)
    return model


def _no_model(path: Path, error: Exception) -> SubjectError:
    return SubjectError(
        f"config.json in {path} makes no model ({first_line(error)}): name a causal language model that this transformers knows"
    )


def load_model(path: Path, dtype: torch.dtype) -> "PreTrainedModel":
    """The causal language model in a folder, with every tensor of its checkpoint in use.

    Raises SubjectError where a weight is missing, has another shape, is not used, or is no number, and where the model looks at
    later tokens.
    """
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    config = load_config(path)
    alone = type(config) is type(AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True))
    try:
        # Attention is left as transformers chooses it: what the model gives without anybody's choice is the reference.
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path,
            config=config,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are named below
            **({} if alone else {"key_mapping": WITHIN}),
        )
    except Exception as error:  # as above
        raise SubjectError(
            f"the model in {path} cannot be loaded ({first_line(error)}): try it with transformers alone, or name another"
        ) from error
    model, report = loaded  # with output_loading_info, both
    # Heads that are tied to the embeddings are not among those that are missing: transformers has tied them.
    if report["mismatched_keys"]:
        raise _other_shapes(path, config, sorted(report["mismatched_keys"]))
    wrong = sorted(report["missing_keys"])
    if wrong:
        raise SubjectError(
            f"the weights in {path} do not fit its config.json ({some_of(wrong)} missing): restore the two from one model"
        )
    unexpected = [key for key in report["unexpected_keys"] if alone or not _other_sense(key)]
    refuse_unused(path, unexpected)
    _refuse_no_numbers(path, model)
    model.eval().requires_grad_(False)
    refuse_looking_ahead(path, model)
    return model


def _other_shapes(path: Path, config: Any, keys: Sequence[tuple[str, Sequence[int], Sequence[int]]]) -> SubjectError:
    """What is to be said of tensors that have one shape in the file and another in the model."""
    name, there, wanted = keys[0]
    said = f"{name} is {' × '.join(map(str, there))} in the file, and config.json makes it {' × '.join(map(str, wanted))}"
    vocabulary = getattr(config.get_text_config(), "vocab_size", None)
    if list(there[1:]) == list(wanted[1:]) and wanted[0] == vocabulary:
        return SubjectError(
            f"the embeddings in {path} were resized after its config.json was written ({said}): set vocab_size to {there[0]} "
            "there, where the tokenizer has been extended, or restore the two from one model"
        )
    more = f", and {len(keys) - 1} more" if len(keys) > 1 else ""
    return SubjectError(f"the weights in {path} do not fit its config.json ({said}{more}): restore the two from one model")


def _refuse_no_numbers(path: Path, model: "PreTrainedModel") -> None:
    for name, weight in model.named_parameters():
        # The least and the largest are NaN where any is, and take no copy.
        if weight.numel() and not all(bool(end.isfinite()) for end in weight.aminmax()):
            raise SubjectError(
                f"{name} in {path} holds values that are no numbers (NaN or infinite): copy or download the weights again, or "
                "name an earlier checkpoint"
            )


def _other_sense(key: str) -> bool:
    return key.removeprefix("model.").startswith(OTHER_SENSES)


def random_tokens(config: Any, vocabulary: int, special: Sequence[int] = ()) -> Int[Tensor, "row pos"]:
    """Tokens for a comparison, none of them special, with some beyond whatever a model begins to do at a short length."""
    rope = getattr(config, "rope_parameters", None)
    began = rope.get("original_max_position_embeddings") if isinstance(rope, dict) else None
    lengths = [getattr(config, name, None) for name in ("sliding_window", "window_size", "attention_chunk_size")]
    short = [length + 4 for length in (*lengths, began) if isinstance(length, int) and 0 < length <= WIDEST]
    length = max(LENGTH, *short) if short else LENGTH
    length = max(1, min(length, context_of(config) or length))
    named = {value for key, value in config.to_dict().items() if key.endswith("token_id") and isinstance(value, int)}
    plain = torch.tensor(sorted(set(range(vocabulary)) - named - set(special)) or list(range(vocabulary)))
    picked = torch.randint(len(plain), (ROWS, length), generator=torch.Generator().manual_seed(SEED))
    return plain[picked]


def embedded(model: "PreTrainedModel") -> int:
    """How many tokens a model has embeddings of."""
    return int(cast(nn.Embedding, model.get_input_embeddings()).num_embeddings)


def context_of(config: Any) -> int | None:
    """The positions that a model knows; None where it knows any number."""
    if getattr(config, "alibi", False):
        return None
    numbers = (getattr(config, key, None) for key in ("max_position_embeddings", "max_seq_len"))
    return next((number for number in numbers if isinstance(number, int)), None)


def boot(path: Path, tokenizer: Any, device: torch.device, dtype: torch.dtype, mode: str) -> tuple[Any, Reference]:
    """A bridge that gives what the model gives, in the mode asked for (`raw` or `processed`), and what it was compared with.

    Raises SubjectError where the model cannot be loaded or wrapped, or where the bridge is another function of its tokens.
    """
    name = path.resolve().name
    model = load_model(path, dtype)
    cast(nn.Module, model).to(device)
    config = model.config.get_text_config()
    vocabulary = min(embedded(model), len(tokenizer))
    tokens = random_tokens(config, vocabulary, tokenizer.all_special_ids).to(device)
    with _as_sentence(f"{name} cannot be run in {str(dtype).removeprefix('torch.')} by transformers", "try another --dtype"):
        reference = Reference.of(model, tokens)
        # The bridge reads attention probabilities, which only this form of attention shows.
        model.set_attn_implementation("eager")
        eager = Reference.of(model, tokens)
    if not reference.agrees(eager.log_probs):
        raise SubjectError(
            f"transformers gives {name} other log-probabilities with eager attention, which interventions need, than with its "
            f"default (off by {reference.off(eager.log_probs):.2g} of their spread): test another model"
        )
    _say_the_same_plainly(model)
    # By which TransformerLens knows it; the text model within a multimodal one does not say it by itself.
    model.config.architectures = model.config.architectures or [type(model).__name__]
    with _as_sentence(f"TransformerLens cannot wrap {name}", "test a model of another architecture or configuration"):
        from transformer_lens.model_bridge import TransformerBridge

        bridge = TransformerBridge.boot_transformers(
            str(path), hf_model=model, tokenizer=tokenizer, device=str(device), dtype=dtype, trust_remote_code=False
        )
        bridge.eval().requires_grad_(False)
        logits, streams = _run(bridge, tokens)
    if not reference.agrees(logits):
        raise SubjectError(
            f"{name} as TransformerLens runs it is not the model that transformers loads: on random tokens the two part in "
            f"{reference.parts_in(streams)} (log-probabilities are off by {reference.off(logits):.2g} of their spread, and "
            f"{ROUNDING[dtype]:.2g} would be rounding): test a model of another architecture or configuration"
        )
    if mode == "processed":
        with _as_sentence(f"TransformerLens cannot process the weights of {name}", "run with --weights raw"):
            bridge.enable_compatibility_mode(disable_warnings=True)
            bridge.requires_grad_(False)  # processing makes parameters anew
            logits, streams = _run(bridge, tokens)
        if not reference.agrees(logits):
            raise SubjectError(
                f"{name} with its weights processed by TransformerLens is not the model that transformers loads: on random "
                f"tokens the two part in {reference.parts_in(streams)} (log-probabilities are off by "
                f"{reference.off(logits):.2g} of their spread, and {ROUNDING[dtype]:.2g} would be rounding): "
                "run with --weights raw, where they agree"
            )
    return bridge, reference


@torch.no_grad()
def _say_the_same_plainly(model: "PreTrainedModel") -> None:
    """Write what TransformerLens does not look at as something that it does; the model stays the same function of its tokens.

    A GPT-2 that does not divide its attention scores gets queries that are longer by as much; a GPT-NeoX without biases of
    attention gets biases of zero.
    """
    if model.config.model_type == "gpt2" and not model.config.scale_attn_weights:
        for block in cast(Any, model).transformer.h:
            attention, width = block.attn, model.config.n_embd
            longer = attention.head_dim**0.5
            attention.c_attn.weight[:, :width] *= longer
            attention.c_attn.bias[:width] *= longer
            attention.scaling /= longer
            attention.scale_attn_weights = True
        model.config.scale_attn_weights = True
    if model.config.model_type == "gpt_neox" and not model.config.attention_bias:
        for layer in cast(Any, model).gpt_neox.layers:
            for linear in (layer.attention.query_key_value, layer.attention.dense):
                zeros = torch.zeros(linear.out_features, dtype=linear.weight.dtype, device=linear.weight.device)
                linear.bias = nn.Parameter(zeros, requires_grad=False)
        model.config.attention_bias = True


@contextmanager
def _as_sentence(what: str, todo: str) -> Iterator[None]:
    try:
        yield
    except (SubjectError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # the libraries raise many kinds here, bare assertions among them
        raise SubjectError(f"{what} ({first_line(error)}): {todo}") from error


@torch.no_grad()
def _run(bridge: Any, tokens: Int[Tensor, "row pos"]) -> tuple[Tensor, list[Tensor]]:
    with streams_before(list(getattr(bridge, "blocks", ()))) as streams:
        logits = bridge(tokens, prepend_bos=False)
    return logits, streams


def _layers(model: "PreTrainedModel") -> list[nn.Module]:
    """A model's layers, where one list of modules is as long as config.json says that there are layers."""
    n_layers = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    lists = (list(part) for part in model.modules() if isinstance(part, nn.ModuleList) and len(part) == n_layers)
    return next(lists, [])
