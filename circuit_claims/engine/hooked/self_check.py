"""What can be trusted of a model that is computed through hooks, found out on loading by identities.

A hook whose edit has no effect, an output that is not what is added to the stream, a pass that starts in the middle and ends
elsewhere: each would give a number without a word. So every step is tried once on a few tokens, in every layer, and what does
not do what it says is refused with a reason.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress

import torch
from jaxtyping import Int
from torch import Tensor

from circuit_claims.engine.hooked.passes import HOOKS, Place
from circuit_claims.engine.hooked.steps import HookedSteps
from circuit_claims.engine.unsupported import UnsupportedArchitecture

#: What each site is called in a sentence.
NAMES = {
    "resid_pre": "the stream before a layer",
    "q": "queries",
    "k": "keys",
    "v": "values",
    "pattern": "attention probabilities",
    "z": "heads' outputs",
    "attn_out": "attention outputs",
    "mlp_out": "MLP outputs",
    "resid_post": "the stream after a layer",
}


#: The most that an identity may be off, however coarse the dtype: an edit without any effect is off by about one.
COARSEST = 0.06


def check(model: HookedSteps, tokens: Int[Tensor, "prompt pos"], tolerance: float) -> None:
    """Fill `model.not_readable` and `model.not_editable`.

    tolerance: what rounding is allowed, as a share of the largest number compared (of log-probabilities: plainly).

    Raises UnsupportedArchitecture where the stream itself, or a pass from a middle layer on, is not the bridge's own.
    """
    tokens = torch.cat([tokens, tokens.flip(1)])  # two rows, so that one put in the other's place would be seen
    model.not_readable, model.not_editable = {}, {}
    theirs = model.bridge(tokens, prepend_bos=False, use_cache=False)[:, -1].float()
    run = model.run(tokens)
    _stream(model, run.resid, theirs, tolerance)
    tolerance = min(tolerance, COARSEST)
    found = _read_all(model, tokens)
    model.not_readable = {site: reason for site in HOOKS if (reason := _not_there(model, site, found, tokens))}
    for found_out in _identities(model, tokens, found, tolerance):
        found_out()


def _stream(model: HookedSteps, resid: Tensor, theirs: Tensor, tolerance: float) -> None:
    difference = float((model.logits(resid[-1][:, -1]).float().log_softmax(-1) - theirs.log_softmax(-1)).abs().max())
    if not difference <= tolerance:
        raise UnsupportedArchitecture(
            f"the logits of its final residual stream are not its own (log-probabilities differ by {difference:.2g})"
        )
    # On tokens that are not the prompt's own: a block that looks at them besides the stream would tell.
    some = torch.ones(resid.shape[1:3], dtype=torch.long, device=resid.device)
    alone = [(layer, layer + 1) for layer in range(model.n_layers)]
    for start, stop in [*alone, (model.n_layers // 2, model.n_layers)]:
        place = (stop - 1, "resid_post")
        ended = model.passes.read(some, [place], start=start, stop=stop, stream=resid[start])[place]
        if not _equal(ended, resid[stop], min(tolerance, COARSEST)):
            raise UnsupportedArchitecture(
                f"starting it at layer {start} does not give the residual stream that it has in the end"
            )


def _read_all(model: HookedSteps, tokens: Tensor) -> dict[Place, Tensor]:
    """Everything that the hooks show in one pass, each site's hook called as often as it is."""
    found: dict[Place, Tensor] = {}
    times: dict[Place, int] = {}

    def reading(place: Place) -> Callable[[Tensor], None]:
        def hook(activation: Tensor) -> None:
            found[place] = activation.clone() if isinstance(activation, Tensor) else activation
            times[place] = times.get(place, 0) + 1

        return hook

    with suppress(RuntimeError):  # of hooks that are not called, which are found missing below
        model.passes(tokens, hooks={place: reading(place) for place in model.passes.points})
    return {place: activation for place, activation in found.items() if times[place] == 1}


def _not_there(model: HookedSteps, site: str, found: dict[Place, Tensor], tokens: Tensor) -> str:
    prompts, length = tokens.shape
    stream = (prompts, length, model.d_model)
    shape = {
        "q": (prompts, length, model.n_heads, model.d_head),
        "k": (prompts, length, model.n_kv_heads, model.d_head),
        "v": (prompts, length, model.n_kv_heads, model.d_head),
        "pattern": (prompts, model.n_heads, length, length),
        "z": (prompts, length, model.n_heads, model.d_head),
    }.get(site, stream)
    for layer in range(model.n_layers):
        if (layer, site) not in found:
            return f"the bridge shows no {NAMES[site]} in layer {layer} of this architecture"
        if (there := tuple(found[layer, site].shape)) != shape:
            return f"the bridge shows {NAMES[site]} of shape {there} in layer {layer}, where {shape} were to be expected"
    return ""


def _identities(
    model: HookedSteps, tokens: Tensor, found: dict[Place, Tensor], tolerance: float
) -> Iterator[Callable[[], None]]:
    """The checks one after the other; each refuses what it finds wrong, and a later one may rest on it."""
    layers = range(model.n_layers)

    def layer_with(layer: int, hooks: dict[str, Tensor], wanted: str) -> Tensor:
        """One layer with some activations set, and what is then at `wanted`."""
        puts = {(layer, site): (lambda _, value=value: value.clone()) for site, value in hooks.items()}
        start = {"start": layer, "stop": layer + 1, "stream": found[layer, "resid_pre"]}
        return model.passes.read(tokens, [(layer, wanted)], puts, **start)[layer, wanted]

    def holds(identity: Callable[[int], tuple[Tensor, Tensor]], *sites: str) -> bool:
        if any(site in model.not_readable for site in sites):
            return True  # refused already
        return all(_equal(*identity(layer), tolerance) for layer in layers)

    def outputs() -> None:
        """The stream after a layer is the stream before it, and what attention and MLP write: as read, and as written."""

        def read(layer: int) -> tuple[Tensor, Tensor]:
            sites = ("resid_pre", "attn_out", "mlp_out", "resid_post")
            pre, attention, mlp, post = (found[layer, site] for site in sites)
            return pre + attention + mlp, post

        def written(layer: int) -> tuple[Tensor, Tensor]:
            pre, attention, mlp = (found[layer, site] for site in ("resid_pre", "attn_out", "mlp_out"))
            attention, mlp = attention.flip(0) * 0.5, mlp.flip(0) * 2  # both other than they are, and not by the same
            return layer_with(layer, {"attn_out": attention, "mlp_out": mlp}, "resid_post"), pre + attention + mlp

        sites = ("attn_out", "mlp_out")
        if not holds(read, *sites):
            _refuse(model.not_readable, sites, "attention and MLP outputs as the bridge shows them do not add up to the stream")
        elif not holds(written, *sites):
            _refuse(model.not_editable, sites, "an edit of the bridge's attention or MLP outputs does not arrive in the stream")

    def between() -> None:
        if model.parallel or any("hook_resid_mid" not in block.hook_aliases for block in model.passes.blocks):
            model.not_readable["resid_mid"] = (
                "attention and MLP stand side by side in this architecture: there is no stream between them"
            )
            return
        for reasons in (model.not_readable, model.not_editable):
            for site in ("attn_out", "mlp_out"):
                if site in reasons:
                    reasons["resid_mid"] = reasons[site]
        if "resid_mid" in model.not_readable or "resid_mid" in model.not_editable:
            return

        def follows(layer: int) -> tuple[Tensor, Tensor]:
            # With the attention's output put into the stream before the layer instead, the MLP must do the same.
            mid = found[layer, "resid_pre"] + found[layer, "attn_out"]
            puts = {(layer, "attn_out"): torch.zeros_like}
            start = {"start": layer, "stop": layer + 1, "stream": mid}
            place = (layer, "mlp_out")
            return model.passes.read(tokens, [place], puts, **start)[place], found[place]

        if not holds(follows):
            model.not_readable["resid_mid"] = (
                "the MLP of this architecture hears something else than the stream after the attention"
            )

    def attention() -> None:
        """Heads' outputs are values averaged by the pattern, and whatever is set there has its effect."""

        def averaged(layer: int) -> tuple[Tensor, Tensor]:
            pattern = found[layer, "pattern"].flip(0).flip(1)
            values = found[layer, "v"].flip(0) * 0.5
            z = layer_with(layer, {"pattern": pattern, "v": values}, "z")
            return z, (pattern @ values.repeat_interleave(model.group, 2).transpose(1, 2)).transpose(1, 2)

        def values_edited(layer: int) -> tuple[Tensor, Tensor]:
            z = layer_with(layer, {"v": found[layer, "v"] * 0.5}, "z")
            return z, found[layer, "z"] * 0.5

        def looks(layer: int) -> tuple[Tensor, Tensor]:
            swapped = layer_with(layer, {"q": found[layer, "q"].flip(0), "k": found[layer, "k"].flip(0)}, "pattern")
            return swapped, found[layer, "pattern"].flip(0)

        def output_edited(layer: int) -> tuple[Tensor, Tensor]:
            return layer_with(layer, {"z": found[layer, "z"].flip(0)}, "attn_out"), found[layer, "attn_out"].flip(0)

        without_effect = "an edit of the bridge's {} does not change what it should in this architecture"
        if not holds(output_edited, "z", "attn_out"):
            _refuse(model.not_editable, ("z",), without_effect.format(NAMES["z"]))
        if not holds(looks, "q", "k", "pattern"):
            _refuse(model.not_editable, ("q", "k"), without_effect.format("queries and keys"))
        if not holds(averaged, "v", "pattern", "z"):
            _refuse(model.not_editable, ("pattern",), without_effect.format(NAMES["pattern"]))
            if not holds(values_edited, "v", "z"):
                _refuse(model.not_editable, ("v",), without_effect.format(NAMES["v"]))

    def heads() -> None:
        """What heads write adds up, with the bias, to the attention's output."""
        reason = model.not_readable.get("attn_out") or model.not_readable.get("z") or model.not_editable.get("z")
        if reason:
            model.not_readable["head_out"] = reason
            return

        def adds_up(layer: int) -> tuple[Tensor, Tensor]:
            z = found[layer, "z"]
            nothing = layer_with(layer, {"z": torch.zeros_like(z)}, "attn_out")
            shape = found[layer, "attn_out"].shape
            alone = (model._written(layer, z[:, :, head].reshape(-1, z.shape[-1]), head) for head in range(model.n_heads))
            return nothing + sum(written.view(shape) for written in alone), found[layer, "attn_out"]

        if not holds(adds_up):
            model.not_readable["head_out"] = "heads' outputs do not simply add up in the stream of this architecture"

    def inputs() -> None:
        for which in ("q", "k", "v"):

            def alone(layer: int, which: str = which) -> tuple[Tensor, Tensor]:
                place = (layer, which)
                stream = found[layer, "resid_pre"].reshape(-1, 1, model.d_model)
                some = torch.ones(stream.shape[:2], dtype=torch.long, device=stream.device)
                read = model.passes.read(some, [place], start=layer, stop=layer + 1, stream=stream)
                return read[place].view(found[place].shape), found[place]

            if not holds(alone, which):
                model.not_readable[which] = (
                    f"{NAMES[which]} of this architecture follow from more than the stream at their position"
                )

    def norm() -> None:
        if not hasattr(model.bridge, "ln_final"):
            model.not_readable["frozen_norm"] = "this architecture has no final norm"
            return
        x, y = found[0, "resid_pre"], found[model.n_layers - 1, "resid_post"]
        parts = model._frozen_norm(x, y) + model._frozen_norm(y, y)
        bias = model.bridge.ln_final(torch.zeros_like(y[:1, :1]))
        whole = _equal(model._frozen_norm(y, y) + bias, model.bridge.ln_final(y), tolerance)
        if not (whole and _equal(model._frozen_norm(x + y, y), parts, tolerance)):
            model.not_readable["frozen_norm"] = "the final norm of this architecture is neither a layer norm nor an RMS norm"

    yield from (outputs, between, attention, heads, inputs, norm)


def _refuse(table: dict[str, str], sites: tuple[str, ...], reason: str) -> None:
    for site in sites:
        table.setdefault(site, reason)


def _equal(a: Tensor, b: Tensor, tolerance: float) -> bool:
    return bool((a - b).abs().max() <= tolerance * max(1.0, float(b.abs().max())))
