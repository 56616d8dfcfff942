"""Interventions as methods: what `circuit_claims.engine.protocol.Engine` asks for beyond the steps, for all kinds of steps."""

from collections.abc import Callable, Collection, Mapping, Sequence

from jaxtyping import Float, Int
from torch import Tensor

from circuit_claims.engine import node_paths
from circuit_claims.engine.decoder import (
    attribution_patching,
    full_sequence,
    patching,
    path_patching,
    receiver_gradients,
    stop_at_layer,
)
from circuit_claims.engine.decoder.steps import Steps
from circuit_claims.engine.edits import Attributions, Edit, Site
from circuit_claims.engine.paths import Mlps, Part, Receivers, Trace, Written
from circuit_claims.engine.receiver_gradients import ReceiverGradients
from circuit_claims.engine.run import Run
from circuit_claims.heads import Head


class Interventions(Steps):
    """Each method is told in the protocol; its page is the function that it calls."""

    def stop_at_layer(self, tokens: Int[Tensor, "prompt pos"], layer: int) -> Float[Tensor, "prompt pos d_model"]:
        """The stream before a layer."""
        return stop_at_layer.stop_at_layer(self, tokens, layer)

    def start_at_layer(self, stream: Float[Tensor, "prompt pos d_model"], layer: int) -> Float[Tensor, "prompt pos d_model"]:
        """The final stream where `stream` stands before a layer."""
        return stop_at_layer.start_at_layer(self, stream, layer)

    def pattern_with_keys(self, base: Run, edit: Edit) -> Float[Tensor, "prompt query key"]:
        """One head's attention probabilities under an edit of its keys."""
        return full_sequence.pattern_with_keys(self, base, edit)

    def intervene(
        self, base: Run, interventions: Sequence[Sequence[Edit]], *, start: int = 0, memory: int | None = None
    ) -> Float[Tensor, "intervention prompt d_model"]:
        """The final stream at END under each of several interventions."""
        return patching.intervene(self, base, interventions, start=start, memory=memory)

    def final_stream(self, base: Run, edits: Sequence[Edit]) -> Float[Tensor, "prompt pos d_model"]:
        """The final stream at all positions under edits made together."""
        return full_sequence.final_stream(self, base, edits)

    def trace(self, run: Run, positions: Int[Tensor, "prompt k"], knocked_out: Sequence[Edit] = ()) -> Trace:
        """A run at some positions.

        Raises Unsupported where attention and MLP stand side by side, so that there is no stream between them.
        """
        self.needs("resid_mid")
        return path_patching.trace(self, run, positions, knocked_out)

    def written_at(self, run: Run, positions: Int[Tensor, "prompt k"], knocked_out: Sequence[Edit] = ()) -> Written:
        """What every part writes into the stream at some positions."""
        return path_patching.written_at(self, run, positions, knocked_out)

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
        """The final stream at END under path patching."""
        return path_patching.path_patch(
            self, base, new, senders, receivers, positions, mlps=mlps, knocked_out=knocked_out, memory=memory
        )

    def receiver_inputs(
        self, base: Run, new: Run, senders: Sequence[Head], receivers: Receivers, positions: Int[Tensor, "prompt k"]
    ) -> list[Edit]:
        """What path patching sets the receivers' inputs to."""
        return path_patching.receiver_inputs(self, base, new, senders, receivers, positions)

    def path_patch_parts(
        self, base: Run, new: Run, senders: Sequence[Collection[Part]], through: Collection[int] = ()
    ) -> Float[Tensor, "sender prompt d_model"]:
        """The final stream at END with heads' and MLPs' outputs there taken from another run."""
        return node_paths.path_patch_parts(self, base, new, senders, through)

    def attributions(
        self, clean: Run, corrupted: Run, answers: Int[Tensor, "prompt 2"], *, memory: int | None = None
    ) -> Attributions:
        """The first-order estimates of all patches, by one backward pass."""
        return attribution_patching.attributions(self, clean, corrupted, answers, memory=memory)

    def receiver_gradients(
        self,
        embedded: Float[Tensor, "prompt pos d_model"],
        metric: Callable[[Float[Tensor, "prompt d_model"]], Float[Tensor, " prompt"]],
        replaced: Mapping[tuple[int, Site], Float[Tensor, "prompt pos d_model"]] | None = None,
    ) -> ReceiverGradients:
        """Gradients with respect to what heads, MLPs and logits read, by one backward pass."""
        return receiver_gradients.receiver_gradients(self, embedded, metric, replaced)

    def head_products(
        self,
        layer: int,
        change: Float[Tensor, "prompt sender pos d_model"],
        gradients: Sequence[ReceiverGradients],
        inputs: Sequence[str] = ("q", "k", "v"),
    ) -> Float[Tensor, "prompt receiver sender"]:
        """Changes of the stream before a layer times the gradients of what its heads read."""
        return receiver_gradients.head_products(self, layer, change, gradients, inputs)
