"""A sparse autoencoder on the subject under test: features of its residual stream, and the model with features changed.

The autoencoder is sae-lens's own object; the model is the suite's engine. What goes in and comes out here is the subject's
residual stream in the subject's mode, whatever the autoencoder expects (`circuit_claims.sae.stream_mode`).
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuit_claims.engine.edits import Edit
from circuit_claims.engine.run import Run
from circuit_claims.models.loading_guard import nothing_installed_or_downloaded
from circuit_claims.models.subject_error import first_line
from circuit_claims.sae.folder import SaeError, SaeFolder
from circuit_claims.sae.stream_mode import place_of, stream_at, stream_of, surely_another, takes_mean_off
from circuit_claims.subjects.subject import Subject, versions
from circuit_claims.time_spent import spent_on

#: Feature activations that are held at a time, in numbers: a batch is split to stay below.
ACTIVATIONS = 1 << 23

#: Changes feature activations `[prompt, pos, d_sae]`, and gives the changed ones back.
Change = Callable[[Float[Tensor, "prompt pos d_sae"]], Float[Tensor, "prompt pos d_sae"]]


@dataclass(frozen=True)
class LoadedSae:
    """An SAE and the subject that it reads.

    sae: sae-lens's object, or anything with its `encode`, `decode` and `W_dec` (a control: a random dictionary, PCA).
    layer: it reads the residual stream before this layer; with the number of layers, the one after the last.
    takes_mean_off: whether the subject's stream is raw and the SAE's centred.
    facts: what rows say of it.
    """

    subject: Subject
    sae: Any
    layer: int
    hook_name: str
    takes_mean_off: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def row_facts(self) -> dict[str, Any]:
        """For `Samples.facts`: what a row says of the SAE, and the version of sae-lens, on which numbers depend."""
        return {"sae": self.facts, "versions": versions() | {"sae-lens": version("sae-lens")}}

    @property
    def n_features(self) -> int:
        """How many features the dictionary has."""
        return self.sae.W_dec.shape[0]

    @property
    def architecture(self) -> str:
        """standard, topk, jumprelu, ..., as sae-lens calls it."""
        return self.sae.cfg.architecture()

    def with_dictionary(self, dictionary: Any, name: str) -> "LoadedSae":
        """Another dictionary at the same place, for a control; it has `encode`, `decode` and `W_dec` as sae-lens's have."""
        return replace(self, sae=dictionary, facts=self.facts | {"sae": name, "source": "a control", "sha256": ""}, record={})

    # The stream

    def stream(self, tokens: Int[Tensor, "prompt pos"]) -> Float[Tensor, "prompt pos d_model"]:
        """The subject's residual stream where the SAE reads it, in the subject's own mode."""
        return self.subject.transformer.stop_at_layer(tokens.to(self.subject.device), self.layer)

    @torch.inference_mode()
    def encode(self, stream: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_sae"]:
        """Feature activations.

        Raises SaeError for an empty batch, and for a stream of another width.
        """
        if stream.numel() == 0:
            raise SaeError("there are no tokens to look for features in: give at least one prompt")
        if stream.shape[-1] != self.sae.W_dec.shape[1]:
            raise SaeError(f"the SAE reads vectors of {self.sae.W_dec.shape[1]} numbers, and these have {stream.shape[-1]}")
        return self.sae.encode(self._theirs(stream))

    @torch.inference_mode()
    def decode(
        self, features: Float[Tensor, "*batch d_sae"], like: Float[Tensor, "*batch d_model"]
    ) -> Float[Tensor, "*batch d_model"]:
        """The stream that these features reconstruct, in the subject's mode.

        like: the stream that was encoded: what the SAE leaves out (the mean, where it is not the SAE's; the scale, where inputs
        are normalised token by token) is taken from there.
        """
        prepare = getattr(self.sae, "run_time_activation_norm_fn_in", None)
        if prepare is not None:
            prepare(self._theirs(like).to(features.dtype))  # sae-lens remembers the scale from the last input until it decodes
        decoded = self.sae.decode(features).to(like.dtype)
        return decoded + like.mean(-1, keepdim=True) if self.takes_mean_off else decoded

    def reconstruct(self, stream: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """What the SAE makes of a stream."""
        return self.decode(self.encode(stream), stream)

    def _theirs(self, stream: Tensor) -> Tensor:
        return stream - stream.mean(-1, keepdim=True) if self.takes_mean_off else stream

    # Features

    def features(self, tokens: Int[Tensor, "prompt pos"]) -> Float[Tensor, "prompt pos d_sae"]:
        """Feature activations at all positions of some prompts; mind the memory, prompts × positions × features."""
        return self.encode(self.stream(tokens))

    @cached_property
    def directions(self) -> Float[Tensor, "d_sae d_model"]:
        """The decoder's rows: what a feature adds to the stream for each unit of its activation (of a normalised stream, where
        the SAE normalises token by token)."""
        return self.sae.W_dec.detach().to(self.subject.dtype)

    @torch.inference_mode()
    def logit_weights(self, features: Sequence[int]) -> Float[Tensor, "feature d_vocab"]:
        """What a unit along each feature's direction adds to the logits directly, past all later layers, less the mean over the
        vocabulary; the final norm's gain counts, and its scale is left at 1."""
        logits = self.subject.transformer.direct_logits(self.directions[list(features)])
        return logits - logits.mean(-1, keepdim=True)

    # The model with the SAE in it

    @torch.inference_mode()
    def spliced(
        self,
        tokens: Int[Tensor, "prompt pos"],
        change: Change | None = None,
        *,
        keep_error: bool = False,
        keep: Bool[Tensor, "prompt pos"] | None = None,
    ) -> Float[Tensor, "prompt pos d_model"]:
        """The final residual stream at all positions, before the last norm, with the reconstruction in place of the stream.

        change: made to the feature activations before they are decoded.
        keep_error: whether what the SAE does not reconstruct stays in the stream; then without a change nothing changes.
        keep: positions at which the stream stays as it is.
        """
        stream = self.stream(tokens)
        put = self.replaced(stream, change, keep_error=keep_error)
        if keep is not None:
            put = torch.where(keep[..., None].to(put.device), stream, put)
        return self.subject.transformer.start_at_layer(put, self.layer)

    @torch.inference_mode()
    def replaced(
        self, stream: Float[Tensor, "*batch d_model"], change: Change | None = None, *, keep_error: bool = False
    ) -> Float[Tensor, "*batch d_model"]:
        """A stream as the SAE reconstructs it from changed features, with or without what it does not reconstruct."""
        features = self.encode(stream)
        changed = features if change is None else change(features)
        if not keep_error:
            return self.decode(changed, stream)
        # The decoder is affine in the features, and its error cancels.
        return stream + (self.decode(changed, stream) - self.decode(features, stream)) if change is not None else stream

    @spent_on("interventions")
    @torch.inference_mode()
    def changed_at(
        self, tokens: Int[Tensor, "prompt pos"], positions: Int[Tensor, "prompt k"], changes: Sequence[Change]
    ) -> Float[Tensor, "change prompt d_model"]:
        """The final residual stream at the last position under each of several changes of features at some positions.

        changes: each is given the feature activations at these positions, `[prompt, k, d_sae]`. What the SAE does not
        reconstruct stays. All changes are one batch, and nothing before the first position is computed.
        """
        run = self.subject.run(tokens.to(self.subject.device))
        rows = torch.arange(len(tokens), device=run.tokens.device)[:, None]
        stream = run.resid[self.layer][rows, positions]
        features = self.encode(stream)
        base = self.decode(features, stream)
        values = (stream + (self.decode(change(features.clone()), stream) - base) for change in changes)
        return self.set_at(run, positions, list(values))

    def ablated_at(
        self, tokens: Int[Tensor, "prompt pos"], positions: Int[Tensor, "prompt k"], sets: Sequence[Sequence[int]]
    ) -> Float[Tensor, "set prompt d_model"]:
        """The final residual stream at the last position with each set of features at zero at some positions."""
        return self.changed_at(tokens, positions, [at_value(features, 0.0) for features in sets])

    @spent_on("interventions")
    @torch.inference_mode()
    def steered_at(
        self,
        tokens: Int[Tensor, "prompt pos"],
        positions: Int[Tensor, "prompt k"],
        vectors: Float[Tensor, "vector d_model"],
    ) -> Float[Tensor, "vector prompt d_model"]:
        """The final residual stream at the last position with each vector added to the stream at some positions.

        A step of size a along feature f's direction is `a * sae.directions[f]`; a random one of the same norm is its control.
        """
        run = self.subject.run(tokens.to(self.subject.device))
        rows = torch.arange(len(tokens), device=run.tokens.device)[:, None]
        stream = run.resid[self.layer][rows, positions]
        return self.set_at(run, positions, [stream + vector for vector in vectors])

    @torch.inference_mode()
    def set_at(
        self, run: Run, positions: Int[Tensor, "prompt k"], values: Sequence[Float[Tensor, "prompt k d_model"]]
    ) -> Float[Tensor, "change prompt d_model"]:
        """The final residual stream at the last position with each of several values of the stream at some positions."""
        model = self.subject.transformer
        last = self.layer == model.n_layers
        layer, site = (self.layer - 1, "resid_post") if last else (self.layer, "resid_pre")
        return model.intervene(run, [[Edit(layer, site, value, None, positions)] for value in values])


def at_value(features: Sequence[int], value: float) -> Change:
    """Set features to a value."""

    def change(activations: Float[Tensor, "prompt pos d_sae"]) -> Float[Tensor, "prompt pos d_sae"]:
        activations = activations.clone()
        activations[..., list(features)] = value
        return activations

    return change


@contextmanager
def without_advice() -> Iterator[None]:
    """Leave out sae-lens's warning how a model is to be loaded for an SAE: that it was so loaded is checked here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*This SAE has non-empty model_from_pretrained_kwargs")
        yield


@spent_on("loading the SAE")
def load_sae(folder: SaeFolder, subject: Subject) -> LoadedSae:
    """Load an SAE and check that it goes with the subject.

    Raises SaeError where it is of another width, place or model, or was trained on a stream that the subject does not give.
    """
    place, mean_off = check_fit(folder, subject)
    with nothing_installed_or_downloaded(folder.name):
        return _loaded(folder, subject, _boot(folder, subject), place, mean_off)


def check_fit(folder: SaeFolder, subject: Subject) -> tuple[Any, bool]:
    """Where an SAE reads the subject, and whether the mean is taken off for it, before it is loaded.

    Raises SaeError as `load_sae` does.
    """
    metadata = folder.metadata
    model = metadata.get("model_name")
    same_weights = metadata.get("model_weights_sha256") == subject.weights_sha256
    if model and not same_weights and surely_another(str(model), subject.name, subject.settings.name, subject.card.name):
        raise SaeError(
            f"the SAE {folder.name} is of the model {model}, and the subject is {subject.name}: "
            f"take one of this model, or a subject whose card is {model}'s"
        )
    engine = subject.transformer
    place = place_of(metadata, engine.n_layers)
    if folder.cfg["d_in"] != engine.d_model:
        raise SaeError(
            f"the SAE {folder.name} reads vectors of {folder.cfg['d_in']} numbers, and the residual stream of {subject.name} "
            f"has {engine.d_model}: take an SAE of this model"
        )
    expected = stream_of(metadata, scaled=folder.scaling_factor is not None, norm=engine.normalization)
    return place, takes_mean_off(expected, stream_at(subject, place.layer))


def _boot(folder: SaeFolder, subject: Subject) -> Any:
    from sae_lens import SAE

    dtype = str(subject.dtype).removeprefix("torch.")
    try:
        with without_advice():
            sae = SAE.load_from_disk(str(folder.path), device=str(subject.device), dtype=dtype)
    except Exception as error:  # sae-lens raises many kinds here; the user can do one thing about all of them
        raise SaeError(
            f"sae-lens cannot load {folder.path} ({first_line(error)}): save it anew with the version that wrote it"
        ) from error
    if folder.scaling_factor is not None:
        sae.fold_activation_norm_scaling_factor(folder.scaling_factor)
    return sae.eval().requires_grad_(False)


def _loaded(folder: SaeFolder, subject: Subject, sae: Any, place: Any, mean_off: bool) -> LoadedSae:
    trained_on = folder.metadata.get("model_weights_sha256")
    facts = {
        "sae": folder.name,
        "source": folder.source,
        "sha256": folder.sha256(),
        "hook": place.hook_name,
        "architecture": sae.cfg.architecture(),
        "features": folder.cfg["d_sae"],
    }
    if trained_on and trained_on != subject.weights_sha256:
        facts["trained_on"] = f"other weights than the subject's ({trained_on[:12]})"
    return LoadedSae(subject, sae, place.layer, place.hook_name, mean_off, facts, folder.record)
