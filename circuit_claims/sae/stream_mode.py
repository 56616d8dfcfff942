"""Which activations a sparse autoencoder was trained on: the place, and the mode of the residual stream there.

TransformerLens's processing takes the mean over its components off every vector of the stream of a model with layer norm
(writing weights are centred; nothing else that it does changes the stream). An SAE trained on the centred stream reconstructs
the raw one badly, and the other way round, with no error: true claims are then refuted. So the mode is read off the SAE's own
metadata, never chosen by hand:

- a key `residual_stream` ("raw" or "centred"), which this project's training writes;
- `model_from_pretrained_kwargs.center_writing_weights`, which sae-lens's registry gives for `gpt2-small-res-jb`;
- of a model with RMS norm raw all the same: TransformerLens centres none of these, whatever it is asked;
- otherwise raw: sae-lens trains on `from_pretrained_no_processing`, and so does whoever says nothing else;
- where inputs are layer-normed (OpenAI's), the mean is taken off by the SAE itself, and both streams are the same to it.

On a raw model a centred stream is had exactly, by taking the mean off; on a centred one the raw stream cannot be had at all.
Which of the two a subject has is measured, at the SAE's own place: no flag is believed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from circuit_claims.sae.folder import SaeError

if TYPE_CHECKING:
    from circuit_claims.subjects.subject import Subject

Stream = Literal["raw", "centred", "either"]

RESIDUAL_HOOK = re.compile(r"blocks\.(\d+)\.(?:hook_(resid_pre|resid_post|in|out))")

#: How much of a vector's length may lie along the mean of its components, by dtype, where the mean has been taken off; of
#: float64 as of float32, in which processing computes some of it.
CENTRED = {torch.float64: 1e-4, torch.float32: 1e-4, torch.float16: 1e-3, torch.bfloat16: 4e-3}
#: Tokens on which it is measured whether a stream is centred.
MEASURED_TOKENS = 16


@dataclass(frozen=True)
class Place:
    """Where an SAE reads: the residual stream before `layer`; with the number of layers, after the last one."""

    hook_name: str
    layer: int


def place_of(metadata: Mapping[str, Any], n_layers: int) -> Place:
    """Where an SAE reads the stream of a model of `n_layers` layers.

    Raises SaeError where it reads something else than the residual stream between layers, or a layer that is not there.
    """
    name = metadata.get("hook_name") or metadata.get("hook_point")
    if not name:
        raise SaeError("this SAE's cfg.json names no hook: add metadata.hook_name, such as blocks.8.hook_resid_pre")
    found = RESIDUAL_HOOK.fullmatch(str(name))
    if found is None:
        raise SaeError(
            f"this SAE reads {name}, and the claims are about the residual stream between layers: "
            "take one of hook_resid_pre or hook_resid_post"
        )
    layer = int(found[1]) + (found[2] in ("resid_post", "out"))
    if int(found[1]) >= n_layers:
        raise SaeError(f"this SAE reads {name}, and the subject has {n_layers} layers: take an SAE of this model")
    return Place(str(name), layer)


def stream_of(metadata: Mapping[str, Any], *, scaled: bool = False, norm: str | None = "LN") -> Stream:
    """The mode of the residual stream that an SAE was trained on, as its own files or the registry tell (see above).

    scaled: whether the factor is known by which its inputs are scaled. norm: the model's kind of norm, as the bridge calls it.

    Raises SaeError where they say something that is not known, and where the inputs need a factor that is not given.
    """
    normalised = metadata.get("normalize_activations") or "none"
    normalised = "expected_average_only_in" if normalised is True else normalised  # as it was written before sae-lens 3
    if normalised in ("expected_average_only_in", "covariance_whitening") and not scaled:
        raise SaeError(
            f"this SAE expects inputs normalised by {normalised}, and its files do not say by what: "
            "fold the normalisation into its weights with sae-lens, and save it anew"
        )
    if normalised == "layer_norm":
        return "either"
    said = metadata.get("residual_stream")
    if said is not None:
        if said not in ("raw", "centred"):
            raise SaeError(f"this SAE's metadata has residual_stream = {said!r}: it must be raw or centred")
        return said
    kwargs = metadata.get("model_from_pretrained_kwargs") or {}
    # Folding the norms also centres nothing: only this one of TransformerLens's steps changes the stream.
    centred = kwargs.get("center_writing_weights") and not str(norm).startswith("RMS")
    return "centred" if centred else "raw"


def centred_share(stream: Float[Tensor, "*batch d_model"]) -> float:
    """How much of vectors' length lies along the mean of their components: 0 of centred ones, and at most 1.

    The root of the mean square over vectors; one in which a few tokens are huge counts like any other.
    """
    vectors = stream.double().flatten(0, -2)
    along = vectors.mean(-1).square() * vectors.shape[-1]
    return float((along / vectors.square().sum(-1).clamp_min(1e-30)).mean().sqrt())


def stream_at(subject: "Subject", layer: int) -> Stream:
    """The mode of a subject's residual stream before a layer, measured: a few tokens are run.

    What processing centres depends on the architecture: the bridge leaves some models with layer norm as they are. A stream
    that is centred without processing is "either": the raw one and the centred one are the same.
    """

    tokens = torch.arange(2, 2 + MEASURED_TOKENS, device=subject.device)[None] % subject.transformer.d_vocab
    with torch.inference_mode():
        share = centred_share(subject.transformer.stop_at_layer(tokens, layer))
    if share >= CENTRED[subject.dtype]:
        return "raw"
    return "centred" if subject.mode == "processed" else "either"


def takes_mean_off(expected: Stream, given: Stream) -> bool:
    """Whether an SAE that expects one stream, on a subject that gives another, is put right by taking the mean off.

    Raises SaeError where nothing puts it right.
    """
    if expected == "raw" and given == "centred":
        raise SaeError(
            "this SAE was trained on the raw residual stream, and processing has centred the subject's: run with --weights raw"
        )
    return expected == "centred" and given == "raw"


def same_model(a: str, b: str) -> bool:
    """Whether two names can mean one model: a hub id or a short name of TransformerLens, a name with or without its owner, a
    folder by its last part. Capitals do not count."""
    return _plain(a) == _plain(b)


def surely_another(said: str, *subject: str) -> bool:
    """Whether the model that an SAE names is another than the subject, by any of the subject's names.

    A folder on somebody's disk may hold whatever it is called: it is another model only where its name is that of a known one.
    """
    if any(same_model(said, name) for name in subject):
        return False
    is_path = said.startswith((".", "/", "~")) or "\\" in said or said.count("/") > 1
    return not is_path or _plain(said) in set(_known_models().values())


def _plain(name: str) -> str:
    last = name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1].casefold()
    return _known_models().get(last, last)


@lru_cache(maxsize=1)
def _known_models() -> dict[str, str]:
    """For each name that TransformerLens has for a model, without its owner, the one that stands for all of them."""
    from transformer_lens.supported_models import MODEL_ALIASES, OFFICIAL_MODEL_NAMES

    known = {}
    for official, others in (dict.fromkeys(OFFICIAL_MODEL_NAMES, ()) | MODEL_ALIASES).items():
        model = official.rsplit("/", 1)[-1].casefold()
        known |= {other.rsplit("/", 1)[-1].casefold(): model for other in (official, *others)}
    return known
