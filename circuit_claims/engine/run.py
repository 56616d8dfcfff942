"""A forward pass as every engine gives it, and the inside of one attention layer."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from circuit_claims.engine.unsupported import Unsupported

#: Rows (a token under an intervention) that go through a layer at a time: enough for the matrix products to run at full speed,
#: few enough for the activations between them to stay in memory that is used again and again.
ROWS = 2048

#: What the activations of interventions under way may occupy, in bytes, unless the user says otherwise.
MEMORY_CAP = 1_000_000_000


@dataclass(frozen=True)
class Run:
    """A forward pass remembered by its residual stream alone: everything inside a layer is one cheap step from there.

    resid: `[layer + 1, prompt, pos, d_model]`, the stream before each layer, and after the last.
    kept: where they were asked for, keys and values too, `[layer, 2, prompt, pos, kv_head, d_head]`: up to three times the
        memory, for runs that are used at once.
    """

    tokens: Int[Tensor, "prompt pos"]
    resid: Float[Tensor, "layers_and_one prompt pos d_model"]
    kept: Float[Tensor, "layer two prompt pos kv_head d_head"] | None = None

    @property
    def n_bytes(self) -> int:
        """What the run occupies."""
        return sum(part.numel() * part.element_size() for part in (self.tokens, self.resid, self.kept) if part is not None)


def slice_run(run: Run, chunk: slice) -> Run:
    """The same run of some of its prompts."""
    return Run(run.tokens[chunk], run.resid[:, chunk], None if run.kept is None else run.kept[:, :, chunk])


def first_difference(a: Int[Tensor, "prompt pos"], b: Int[Tensor, "prompt other_pos"]) -> int:
    """The first position at which two batches differ in any prompt; the last position where they do not differ at all.

    Batches of different length differ from the first position on.
    """
    if a.shape[1] != b.shape[1]:
        return 0
    differs = (a != b).any(0).nonzero()
    return int(differs[0]) if len(differs) else a.shape[1] - 1


class Attention:
    """The inside of one attention layer at all positions; reading a part that cannot be had raises Unsupported."""

    def __init__(self, parts: Mapping[str, Tensor], missing: Mapping[str, str] | None = None) -> None:
        """parts: by name, what there is; missing: by name, why the others cannot be had."""
        self._parts, self._missing = parts, missing or {}

    def _part(self, name: str) -> Tensor:
        if name in self._missing:
            raise Unsupported(self._missing[name])
        return self._parts[name]

    @property
    def q(self) -> Float[Tensor, "prompt pos head d_head"]:
        """Queries as projected, before any norm of them and before their rotation."""
        return self._part("q")

    @property
    def k(self) -> Float[Tensor, "prompt pos kv_head d_head"]:
        """Keys, likewise; where heads share them in groups, one a group."""
        return self._part("k")

    @property
    def v(self) -> Float[Tensor, "prompt pos kv_head d_head"]:
        """Values; where heads share them in groups, one a group."""
        return self._part("v")

    @property
    def pattern(self) -> Float[Tensor, "prompt head query key"]:
        """Attention probabilities."""
        return self._part("pattern")

    @property
    def z(self) -> Float[Tensor, "prompt pos head d_head"]:
        """Values averaged by the pattern: every head's output before its projection to the stream."""
        return self._part("z")

    @property
    def out(self) -> Float[Tensor, "prompt pos d_model"]:
        """What the layer adds to the stream, bias included."""
        return self._part("out")
