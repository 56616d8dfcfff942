"""One forward pass of a bridge's own modules, from any layer on, with hooks.

`TransformerBridge` supports no `start_at_layer`: the library that it wraps owns the loop over layers. So the blocks that are
not wanted are replaced, for the duration of one pass, by ones that give the stream to start from, or hand on what they are
given. Embedding, rotary positions and masks are made by the model's own code as ever, and the other blocks do not notice.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from circuit_claims.engine.unsupported import UnsupportedArchitecture

#: TransformerLens's names of what is read and written, below a block. `resid_mid` is missing on purpose: the bridge's hook of
#: that name is an alias of the MLP's input, and writing to it leaves the stream itself as it was.
HOOKS = {
    "resid_pre": "hook_resid_pre",
    "q": "attn.hook_q",
    "k": "attn.hook_k",
    "v": "attn.hook_v",
    "pattern": "attn.hook_pattern",
    "z": "attn.hook_z",
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "resid_post": "hook_resid_post",
}

#: Where a hook hangs: layer and site.
Place = tuple[int, str]
#: Looks at an activation and gives back another one, or None to leave it.
Hook = Callable[[Tensor], Tensor | None]


class Passes:
    """Forward passes through one bridge."""

    def __init__(self, bridge: Any) -> None:
        """Find the blocks and their hooks.

        Raises UnsupportedArchitecture where the bridge is not one stack of blocks.
        """
        if not hasattr(bridge, "blocks") or not hasattr(bridge, "unembed"):
            raise UnsupportedArchitecture("it is not one stack of blocks with an unembedding")
        self.bridge = bridge
        self.blocks: Sequence[Any] = list(bridge.blocks)
        self.n_layers = len(self.blocks)
        points = bridge.hook_dict
        self.points = {
            (layer, site): points[f"blocks.{layer}.{name}"]
            for layer in range(self.n_layers)
            for site, name in HOOKS.items()
            if f"blocks.{layer}.{name}" in points
        }
        self._returned = self._look_at_returns()

    def __call__(
        self,
        tokens: Int[Tensor, "prompt pos"],
        *,
        start: int = 0,
        stop: int | None = None,
        stream: Float[Tensor, "prompt pos d_model"] | None = None,
        hooks: Mapping[Place, Hook] | None = None,
        around: Mapping[int, Callable[[Callable[..., Any]], Callable[..., Any]]] | None = None,
        logits: bool = False,
    ) -> Tensor:
        """Run the blocks from `start` up to, but not including, `stop`.

        stream: what goes into block `start`; with `start` at the number of layers, what the last block would give.
        hooks: called at their places in computed blocks, each with its activation as TransformerLens shows it.
        around: makes the forward function of a layer's attention anew from what it is.
        logits: whether to unembed: the logits of all positions are given back; without, one column that means nothing.

        Raises RuntimeError where a hook's place is not passed: then nothing of the pass could be trusted.
        """
        stop = self.n_layers if stop is None else stop
        hooks, replaced = dict(hooks or {}), {}
        for layer, block in enumerate(self.blocks):
            if layer < start:
                replaced[block] = self._giving(layer, stream)
            elif layer >= stop:
                replaced[block] = self._giving(layer, None)
        if start == 0 and stream is not None:
            hooks = {(0, "resid_pre"): _first(stream, hooks.get((0, "resid_pre")))} | {
                place: hook for place, hook in hooks.items() if place != (0, "resid_pre")
            }
        if not logits:
            # One column in place of the vocabulary's: what comes out is thrown away.
            replaced[self.bridge.unembed] = lambda x, *_, **__: x[..., :1]
        for layer, make in (around or {}).items():
            attention = self.blocks[layer].attn
            replaced[attention] = make(attention.forward)
        passed: set[Place] = set()
        with ExitStack() as stack:
            for module, forward in replaced.items():
                stack.enter_context(_replaced(module, forward))
            stack.enter_context(self._hooked(hooks, passed))
            stack.enter_context(torch.inference_mode())
            # A cache of keys and values would miss the layers that are left out.
            result = self.bridge(tokens, prepend_bos=False, use_cache=False)
        if missing := hooks.keys() - passed:
            layer, site = min(missing)
            raise RuntimeError(f"the forward pass went past {site} of layer {layer} without calling its hook")
        return result

    def read(
        self, tokens: Int[Tensor, "prompt pos"], places: Sequence[Place], hooks: Mapping[Place, Hook] | None = None, **more: Any
    ) -> dict[Place, Tensor]:
        """A pass that gives back what is at some places, after the hooks there, as copies of its own."""
        found: dict[Place, Tensor] = {}

        def reading(place: Place, hook: Hook | None) -> Hook:
            def read(activation: Tensor) -> Tensor | None:
                changed = hook(activation) if hook else None
                found[place] = (activation if changed is None else changed).clone()
                return changed

            return read

        hooks = dict(hooks or {})
        self(tokens, hooks=hooks | {place: reading(place, hooks.get(place)) for place in places}, **more)
        return found

    def _giving(self, layer: int, stream: Tensor | None) -> Callable[..., Any]:
        """A block's forward that hands on its input, or gives `stream`, in the form that this block gives its output."""

        def forward(*args: Any, **kwargs: Any) -> Any:
            given = stream if stream is not None else args[0] if args else kwargs["hidden_states"]
            width = self._returned[layer]
            return given if width is None else (given, *[None] * (width - 1))

        return forward

    @contextmanager
    def _hooked(self, hooks: Mapping[Place, Hook], passed: set[Place]) -> Iterator[None]:
        """Hang hooks on the bridge, and take these and no others off again."""
        # A level of its own, as `run_with_hooks` takes one, so that hooks of others stay.
        level, points = self.bridge.context_level + 1, []
        self.bridge.context_level = level
        try:
            for place, hook in hooks.items():
                if place not in self.points:
                    raise RuntimeError(f"the bridge has no {HOOKS[place[1]]} in layer {place[0]}")
                points.append(self.points[place])
                self.points[place].add_hook(_noting(place, hook, passed), level=level)
            yield
        finally:
            for point in points:
                point.remove_hooks(dir="fwd", level=level)
            self.bridge.context_level = level - 1

    def _look_at_returns(self) -> list[int | None]:
        """For each block, how long a tuple it gives; None for a tensor alone. A block may not be passed by."""
        returned: dict[int, int | None] = {}

        def note(layer: int) -> Callable[..., None]:
            def hook(module: nn.Module, inputs: Any, output: Any) -> None:
                returned[layer] = len(output) if isinstance(output, tuple) else None

            return hook

        handles = [block.register_forward_hook(note(layer)) for layer, block in enumerate(self.blocks)]
        try:
            tokens = torch.zeros(1, 2, dtype=torch.long, device=self.bridge.cfg.device)
            with torch.inference_mode():
                self.bridge(tokens, prepend_bos=False, use_cache=False)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, TypeError) as error:
            raise UnsupportedArchitecture(f"it does not run on tokens alone, without a cache: {error}") from error
        finally:
            for handle in handles:
                handle.remove()
        if len(returned) != self.n_layers:
            raise UnsupportedArchitecture(f"only {len(returned)} of its {self.n_layers} blocks are called in a forward pass")
        return [returned[layer] for layer in range(self.n_layers)]


@contextmanager
def _replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Give a module another forward function for a while."""
    # Past nn.Module's and the bridge's own setting of attributes, which would hand it on to the module that is wrapped.
    before = module.__dict__.get("forward")
    object.__setattr__(module, "forward", forward)
    try:
        yield
    finally:
        if before is None:
            object.__delattr__(module, "forward")
        else:
            object.__setattr__(module, "forward", before)


def _noting(place: Place, ours: Hook, passed: set[Place]) -> Callable[..., Tensor | None]:
    def called(activation: Tensor, *, hook: Any) -> Tensor | None:
        passed.add(place)
        return ours(activation)

    return called


def _first(stream: Tensor, then: Hook | None) -> Hook:
    def hook(activation: Tensor) -> Tensor:
        changed = then(stream) if then else None
        return stream if changed is None else changed

    return hook
