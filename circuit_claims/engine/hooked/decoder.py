"""The engine of decoders that are not of GPT-2's shape: their own code, and interventions through a bridge's hooks.

What has no meaning in an architecture, or what its bridge cannot do, is found out on loading
(`circuit_claims.engine.hooked.self_check`), and raises Unsupported, with the reason, where it is asked for.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuit_claims.engine import node_paths
from circuit_claims.engine.edits import Attributions, Edit, Site
from circuit_claims.engine.hooked import patching, path_patching, self_check, stop_at_layer
from circuit_claims.engine.hooked.steps import HookedSteps
from circuit_claims.engine.paths import Mlps, Part, Receivers, Trace, Written
from circuit_claims.engine.receiver_gradients import ReceiverGradients
from circuit_claims.engine.run import Run
from circuit_claims.engine.unsupported import NoGradients, Unsupported, UnsupportedArchitecture
from circuit_claims.heads import Head

#: Why attributions to edges cannot be had here.
NO_GRADIENTS = "this model is computed through hooks, which keep no gradients"


class HookedDecoder(HookedSteps):
    """A `circuit_claims.engine.protocol.Engine`, where each method is told; a method's page is the function that it calls."""

    def check_against(self, bridge: Any, tokens: Int[Tensor, "prompt pos"], tolerance: float) -> None:
        """Compare with the bridge's own forward pass, and find out what can be read and edited here.

        Raises UnsupportedArchitecture where a pass from a middle layer on is not the bridge's own, or cannot be made.
        """
        if bridge is not self.bridge:
            raise UnsupportedArchitecture("it is another model than the bridge it is compared with")
        try:
            self_check.check(self, tokens, tolerance)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, TypeError) as error:
            raise UnsupportedArchitecture(f"it does not run layer by layer: {error}") from error

    def stop_at_layer(self, tokens: Int[Tensor, "prompt pos"], layer: int) -> Float[Tensor, "prompt pos d_model"]:
        """The stream before a layer."""
        return stop_at_layer.stop_at_layer(self, tokens, layer)

    def start_at_layer(self, stream: Float[Tensor, "prompt pos d_model"], layer: int) -> Float[Tensor, "prompt pos d_model"]:
        """The final stream where `stream` stands before a layer."""
        return stop_at_layer.start_at_layer(self, stream, layer)

    def pattern_with_keys(self, base: Run, edit: Edit) -> Float[Tensor, "prompt query key"]:
        """One head's attention probabilities under an edit of its keys."""
        return patching.pattern_with_keys(self, base, edit)

    def attend(
        self,
        layer: int,
        q: Float[Tensor, "prompt pos head d_head"],
        k: Float[Tensor, "prompt pos head d_head"],
        v: Float[Tensor, "prompt pos head d_head"],
    ) -> Float[Tensor, "prompt pos head d_head"]:
        """z from queries, keys and values as projected."""
        return patching.attend(self, layer, q, k, v)

    def intervene(
        self, base: Run, interventions: Sequence[Sequence[Edit]], *, start: int = 0, memory: int | None = None
    ) -> Float[Tensor, "intervention prompt d_model"]:
        """The final stream at END under each of several interventions."""
        return patching.intervene(self, base, interventions, memory=memory)

    def final_stream(self, base: Run, edits: Sequence[Edit]) -> Float[Tensor, "prompt pos d_model"]:
        """The final stream at all positions under edits made together."""
        return patching.final_stream(self, base, edits)

    def trace(self, run: Run, positions: Int[Tensor, "prompt k"], knocked_out: Sequence[Edit] = ()) -> Trace:
        """A run at some positions."""
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
        """Raises Unsupported: a pass through the model's own modules keeps no gradients."""
        raise Unsupported(
            "attribution patching takes gradients through the forward pass of GPT-2's architecture alone: "
            "take a subject of that shape to test this"
        )

    def receiver_gradients(
        self,
        embedded: Float[Tensor, "prompt pos d_model"],
        metric: Callable[[Float[Tensor, "prompt d_model"]], Float[Tensor, " prompt"]],
        replaced: Mapping[tuple[int, Site], Float[Tensor, "prompt pos d_model"]] | None = None,
    ) -> ReceiverGradients:
        """Raises NoGradients: a pass through the model's own modules keeps none."""
        raise NoGradients(NO_GRADIENTS)

    def head_products(
        self,
        layer: int,
        change: Float[Tensor, "prompt sender pos d_model"],
        gradients: Sequence[ReceiverGradients],
        inputs: Sequence[str] = ("q", "k", "v"),
    ) -> Float[Tensor, "prompt receiver sender"]:
        """Raises NoGradients: a pass through the model's own modules keeps none."""
        raise NoGradients(NO_GRADIENTS)
