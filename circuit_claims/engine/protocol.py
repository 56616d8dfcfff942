"""What an engine does: it runs one model, and reads and sets its activations.

Three implementations: `circuit_claims.engine.decoder` computes GPT-2's family from plain tensors, and other decoders of a
known plan by their own modules, an intervention in its causal cone alone; `circuit_claims.engine.hooked` computes what is left
through hooks. Which one a subject has is chosen where it is loaded (`circuit_claims.subjects.engine_choice`), and nobody else
asks.

Streams and logits are in the model's own units and dtype. Layers, heads and positions count from 0; END is the last position,
and prompts of one batch have one length. `memory` is a cap in bytes (the engine's own unless given), which splits batches and
changes no number. A method raises Unsupported, with the reason, where the architecture has no such activation, or its bridge
cannot read or edit it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from jaxtyping import Float, Int
from torch import Tensor

from circuit_claims.engine.edits import Attributions, Edit, Site
from circuit_claims.engine.paths import Mlps, Part, Receivers, Trace, Written
from circuit_claims.engine.receiver_gradients import ReceiverGradients
from circuit_claims.engine.run import Attention, Run
from circuit_claims.engine.weights import Weights
from circuit_claims.heads import Head


class Engine(Protocol):
    """One model's forward pass, its steps, and interventions on it."""

    n_layers: int
    n_heads: int
    n_kv_heads: int  # fewer than heads where these share keys and values in groups
    d_head: int
    d_model: int
    d_vocab: int
    n_ctx: int  # the most tokens that it reads
    max_memory: int  # bytes that activations of interventions under way may occupy
    normalization: str  # as TransformerLens calls it: LN, LNPre, RMS, RMSPre
    parallel: bool  # attention and MLP stand side by side: both read the stream before the layer
    linear_logits: bool  # whether logits are known to be linear in what the final norm gives; elsewhere it must be measured
    W_E: Float[Tensor, "d_vocab d_model"]
    W_U: Float[Tensor, "d_model d_vocab"]

    def needs(self, *sites: str, edited: bool = False) -> None:
        """Raise Unsupported, with the reason, where one of these activations cannot be read (or edited)."""
        ...

    def check_against(self, bridge: Any, tokens: Int[Tensor, "prompt pos"], tolerance: float) -> None:
        """Raise UnsupportedArchitecture where the pass is not the bridge's own, within `tolerance` (an engine says of what)."""
        ...

    # Forward passes

    def run(
        self,
        tokens: Int[Tensor, "prompt pos"],
        *,
        keep: bool = False,
        embedded: Float[Tensor, "prompt pos d_model"] | None = None,
    ) -> Run:
        """A forward pass. keep: hold on to keys and values where that is of use; embedded: the stream to begin with."""
        ...

    def stop_at_layer(self, tokens: Int[Tensor, "prompt pos"], layer: int) -> Float[Tensor, "prompt pos d_model"]:
        """The stream before `layer` (with `n_layers`, after the last one); no later layer is computed."""
        ...

    def start_at_layer(self, stream: Float[Tensor, "prompt pos d_model"], layer: int) -> Float[Tensor, "prompt pos d_model"]:
        """The final stream, before the last norm, where `stream` stands before `layer`; `stream` itself is not changed."""
        ...

    # Single steps

    def logits(self, resid: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_vocab"]:
        """The final norm and the unembedding of final streams."""
        ...

    def answer_logits(
        self, resid: Float[Tensor, "*batch prompt d_model"], answers: Int[Tensor, "prompt answer"]
    ) -> Float[Tensor, "*batch prompt answer"]:
        """Of these, each prompt's answer tokens alone."""
        ...

    def frozen_norm(
        self, x: Float[Tensor, "*batch d_model"], like: Float[Tensor, "*batch d_model"] | None
    ) -> Float[Tensor, "*batch d_model"]:
        """The final norm of a part of the stream, without its bias, at the scale of the stream `like` (with None, at 1)."""
        ...

    def direct_logits(self, directions: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_vocab"]:
        """What directions in the final stream add to the logits: the norm's gain counts, and its scale is 1."""
        ...

    def token_embeddings(self, tokens: Int[Tensor, " token"]) -> Float[Tensor, "token d_model"]:
        """What tokens alone put into the stream, without their positions."""
        ...

    def attention(self, layer: int, resid_pre: Float[Tensor, "prompt pos d_model"]) -> Attention:
        """The inside of an attention layer at all positions, from the stream before it."""
        ...

    def head_input(
        self, layer: int, resid: Float[Tensor, "*batch d_model"], head: int, which: str
    ) -> Float[Tensor, "*batch d_head"]:
        """One head's query, key or value (`which`: q, k or v) from the stream before its layer; of a group, the group's."""
        ...

    def head_inputs(
        self, layer: int, which: str, resid: Float[Tensor, "head *batch d_model"]
    ) -> Float[Tensor, "*batch head d_head"]:
        """Every head's query, key or value, each from a stream of its own; where heads share keys, each has its own."""
        ...

    def attend(
        self,
        layer: int,
        q: Float[Tensor, "prompt pos head d_head"],
        k: Float[Tensor, "prompt pos head d_head"],
        v: Float[Tensor, "prompt pos head d_head"],
    ) -> Float[Tensor, "prompt pos head d_head"]:
        """z of a layer from queries, keys and values as projected, of all heads at all positions; each has a key of its own."""
        ...

    def head_outs(self, layer: int, z: Float[Tensor, "*batch head d_head"]) -> Float[Tensor, "head *batch d_model"]:
        """What every head writes into the stream, without the layer's bias."""
        ...

    def mlp(self, layer: int, reads: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """What the MLP adds to the stream, from the stream that it reads, whether that is before or behind the attention."""
        ...

    def head_outputs_at(
        self, run: Run, layer: int, positions: Int[Tensor, "prompt k"]
    ) -> Float[Tensor, "prompt k head d_head"]:
        """z of one layer of a run at some positions."""
        ...

    def head_out(self, layer: int, z: Float[Tensor, "*batch d_head"], head: int) -> Float[Tensor, "*batch d_model"]:
        """What one head writes into the stream, without the layer's bias."""
        ...

    def mlp_out(self, layer: int, resid_mid: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """What the MLP adds to the stream, from the stream between attention and MLP."""
        ...

    def pattern_with_keys(self, base: Run, edit: Edit) -> Float[Tensor, "prompt query key"]:
        """One head's attention probabilities under an edit of its keys."""
        ...

    def weights(self) -> Weights:
        """The weights as GPT-2 lays them out; Unsupported for other architectures."""
        ...

    # Interventions

    def intervene(
        self, base: Run, interventions: Sequence[Sequence[Edit]], *, start: int = 0, memory: int | None = None
    ) -> Float[Tensor, "intervention prompt d_model"]:
        """The final stream at END under each of several interventions on one run, each a set of edits made together.

        start: a position before which no edit with `positions=None` differs from the base; nothing before it is computed.
        """
        ...

    def final_stream(self, base: Run, edits: Sequence[Edit]) -> Float[Tensor, "prompt pos d_model"]:
        """The final stream at all positions under edits that are made together."""
        ...

    def trace(self, run: Run, positions: Int[Tensor, "prompt k"], knocked_out: Sequence[Edit] = ()) -> Trace:
        """The stream before and inside every layer, and all head outputs, at some positions; under edits of z, if any."""
        ...

    def written_at(self, run: Run, positions: Int[Tensor, "prompt k"], knocked_out: Sequence[Edit] = ()) -> Written:
        """What every part writes into the stream at some positions; under edits of z, if any."""
        ...

    def path_patch(
        self,
        base: Run,
        new: Run,
        senders: Sequence[Sequence[Head]],
        receivers: Receivers | None,
        positions: Int[Tensor, "prompt k"],
        *,
        mlps: Mlps = "recomputed",
        knocked_out: Sequence[Edit] = (),
        memory: int | None = None,
    ) -> Float[Tensor, "sender prompt d_model"]:
        """The final stream at END under path patching (Wang et al. 2022, appendix B), for each of several sets of senders.

        base: the run on the original prompts; new: the one from which the senders' outputs at `positions` are taken.
        receivers: whose inputs at `positions` are changed; None for the direct path to the logits. knocked_out: edits of z
        under which all of this happens, for the path to the logits alone.

        Raises ValueError where the path to the logits does not start at END, for knock-outs with receivers or of anything but
        z, and for unknown `mlps`.
        """
        ...

    def receiver_inputs(
        self, base: Run, new: Run, senders: Sequence[Head], receivers: Receivers, positions: Int[Tensor, "prompt k"]
    ) -> list[Edit]:
        """What path patching sets the receivers' inputs to; without those that no sender reaches."""
        ...

    def path_patch_parts(
        self, base: Run, new: Run, senders: Sequence[Collection[Part]], through: Collection[int] = ()
    ) -> Float[Tensor, "sender prompt d_model"]:
        """The final stream at END with heads' and MLPs' outputs there taken from `new` (Hanna et al. 2023, section 3.1).

        through: layers whose MLP hears the change and passes on what comes of it; all others write what they did in `base`.
        """
        ...

    def attributions(
        self, clean: Run, corrupted: Run, answers: Int[Tensor, "prompt 2"], *, memory: int | None = None
    ) -> Attributions:
        """To first order (Nanda 2023), what each patch clean into corrupted adds to the logit difference at END, in logits."""
        ...

    def receiver_gradients(
        self,
        embedded: Float[Tensor, "prompt pos d_model"],
        metric: Callable[[Float[Tensor, "prompt d_model"]], Float[Tensor, " prompt"]],
        replaced: Mapping[tuple[int, Site], Float[Tensor, "prompt pos d_model"]] | None = None,
    ) -> ReceiverGradients:
        """The gradients of a metric of the final stream at END with respect to what heads, MLPs and logits read, in one pass.

        embedded: the stream that the pass begins with. replaced: what attention (attn_out) or MLP (mlp_out) of some layers
        write in place of what they would; no gradient passes through these.

        Raises NoGradients where an engine has none.
        """
        ...

    def head_products(
        self,
        layer: int,
        change: Float[Tensor, "prompt sender pos d_model"],
        gradients: Sequence[ReceiverGradients],
        inputs: Sequence[str] = ("q", "k", "v"),
    ) -> Float[Tensor, "prompt receiver sender"]:
        """Changes of the stream before a layer times the gradients of what its heads read, summed over positions and passes.

        Receivers are the heads' queries, then their keys, then their values, those of `inputs`. Raises NoGradients where an
        engine has none.
        """
        ...
