"""Slow, plain twins: one prompt at a time, whole forward passes through TransformerBridge's own hooks.

Nothing here uses the engine: no cone, no batch of interventions, no shared reference means.
"""

from collections.abc import Iterable
from dataclasses import replace

import torch

from circuit_claims.heads import Head
from circuit_claims.prompts.batch import Batch, make_batches
from circuit_claims.prompts.ioi import Population, Prompt
from circuit_claims.subjects.subject import Subject
from circuit_claims.tasks.ioi.task import IOI
from circuit_claims.tasks.operations.knockouts import Node

#: 0 and 8 have 15 tokens each, and names in other places; 7 has 18. Six frames: six prompts are one of each.
TEMPLATES = (0, 8, 7)

#: Means over p_ABC, made once for all tests.
MEANS: dict[tuple, dict[str, torch.Tensor]] = {}
#: Passes A and B of path patching, likewise.
PASSES: dict[tuple, tuple[dict[str, torch.Tensor], float]] = {}


def task(subject: Subject, *, bos: bool, templates: tuple[int, ...] = TEMPLATES, chunk: int = 4, seed: int = 0) -> IOI:
    """The task on prompts of several lengths and layouts, in chunks that cut through the rounds of frames.

    Of the names some suffice: all pairs of them are listed for every frame whose reference is drawn.
    """
    population = Population(templates=templates, names=subject.names[:20])
    return IOI(subject=subject, seed=seed, chunk=chunk, population=population, prepend_bos=bos)


def alone(ioi: IOI, prompt: Prompt) -> Batch:
    """One prompt as a batch of its own."""
    (batch,) = make_batches(ioi.subject.tokenizer, [prompt], prepend_bos=ioi.prepend_bos)
    return batch


def plain_difference(ioi: IOI, batch: Batch, hooks=(), *, answers: Batch | None = None) -> float:
    """logit(IO) − logit(S) at the last position of a pass with hooks; answers: whose names, where it is not the batch."""
    with torch.inference_mode():
        logits = ioi.subject.bridge.run_with_hooks(batch.tokens, fwd_hooks=list(hooks), prepend_bos=False)[0, -1]
    io, s = (answers or batch).answers[0]
    return float(logits[io] - logits[s])


def plain_cache(ioi: IOI, batch: Batch):
    """All activations of the untouched pass."""
    with torch.inference_mode():
        return ioi.subject.bridge.run_with_cache(batch.tokens, prepend_bos=False)[1]


def z_name(layer: int) -> str:
    return f"blocks.{layer}.attn.hook_z"


def mlp_name(layer: int) -> str:
    return f"blocks.{layer}.hook_mlp_out"


def put(name: str, places: Iterable[tuple], value: torch.Tensor):
    """A hook that sets some places (position, head) or (position,) of a prompt's activation to what stands there in `value`."""
    where = tuple(torch.tensor(list(places)).T)

    def hook(activation, hook):
        activation = activation.clone()
        activation[0][where] = value[where]
        return activation

    return name, hook


def places_of(ioi: IOI, batch: Batch, nodes: Iterable[Node]) -> set[tuple[int, int, int]]:
    """Where nodes are, one by one: (layer, position, head)."""
    length = batch.tokens.shape[1]
    return {
        (layer, position, head)
        for (layer, head), role in nodes
        for position in (range(length) if role is None else [int(batch.positions[role][0])])
    }


def all_heads(ioi: IOI) -> list[Head]:
    cfg = ioi.subject.bridge.cfg
    return [Head(layer, head) for layer in range(cfg.n_layers) for head in range(cfg.n_heads)]


def reference_prompts(ioi: IOI, prompt: Prompt, size: int) -> list[Batch]:
    """p_ABC for a prompt: of its template, order and prefix, under the task's change, with its tokens in the same places."""
    frame = {"templates": (prompt.template,), "orders": (prompt.order,), "prefix": prompt.prefix, "half": None}
    mine, found = alone(ioi, prompt), []
    for other in replace(ioi.population, **frame).stream(ioi.seed + 1):
        batch = alone(ioi, (other.changed(ioi.change) if ioi.change else other).changed("ABC"))
        if batch.tokens.shape == mine.tokens.shape and batch.positions == mine.positions:
            found.append(batch)
        if len(found) == size:
            break
    return found


def outputs(ioi: IOI, batch: Batch) -> dict[str, torch.Tensor]:
    """All heads' and MLPs' outputs on one prompt."""
    seen = {}

    def look(name):
        def hook(activation, hook):
            seen[name] = activation[0]

        return name, hook

    names = [name(layer) for layer in range(ioi.subject.bridge.cfg.n_layers) for name in (z_name, mlp_name)]
    plain_difference(ioi, batch, [look(name) for name in names])
    return seen


def reference_means(ioi: IOI, prompt: Prompt, size: int) -> dict[str, torch.Tensor]:
    """Head and MLP outputs, averaged position by position over p_ABC, one prompt after the other."""
    frame = (prompt.template, prompt.order, prompt.prefix, prompt.extra, len(prompt.text.split()))
    place = (ioi.subject.name, ioi.subject.mode, size, frame, ioi.change, ioi.prepend_bos, ioi.seed, ioi.population.names)
    if place not in MEANS:
        total: dict[str, torch.Tensor] = {}
        for batch in reference_prompts(ioi, prompt, size):
            for name, value in outputs(ioi, batch).items():
                total[name] = total[name] + value if name in total else value
        MEANS[place] = {name: value / size for name, value in total.items()}
    return MEANS[place]


def plain_knock_out(
    ioi: IOI,
    prompt: Prompt,
    removed: Iterable[Node] = (),
    *,
    kept: Iterable[Node] | None = None,
    mlps: Iterable[int] = (),
    by: str = "mean",
    size: int = 16,
    like: Prompt | None = None,
) -> float:
    """The logit difference with nodes knocked out: these, or all but those that are kept and these on top; and with MLPs.

    like: for a control, the prompt whose frame's mean is taken in place of the prompt's own.
    """
    batch = alone(ioi, prompt)
    gone = places_of(ioi, batch, removed)
    if kept is not None:
        everything = places_of(ioi, batch, [(head, None) for head in all_heads(ioi)])
        gone |= everything - places_of(ioi, batch, kept)
    if by == "mean":
        replacement = reference_means(ioi, like or prompt, size)
    elif by == "resample":
        replacement = outputs(ioi, alone(ioi, prompt.changed("ABC")))
    else:
        cfg, length = ioi.subject.bridge.cfg, batch.tokens.shape[1]
        z, mlp = torch.zeros(length, cfg.n_heads, cfg.d_head), torch.zeros(length, cfg.d_model)
        replacement = {z_name(i): z for i in range(cfg.n_layers)} | {mlp_name(i): mlp for i in range(cfg.n_layers)}
    hooks = []
    for layer in sorted({layer for layer, _, _ in gone}):
        here = [(position, head) for at, position, head in gone if at == layer]
        hooks.append(put(z_name(layer), here, replacement[z_name(layer)]))
    positions = [(position,) for position in range(batch.tokens.shape[1])]
    hooks += [put(mlp_name(layer), positions, replacement[mlp_name(layer)]) for layer in mlps]
    return plain_difference(ioi, batch, hooks)


def watch(ioi: IOI, batch: Batch, puts: Iterable[tuple[str, tuple, torch.Tensor]]) -> tuple[dict[str, torch.Tensor], float]:
    """A pass in which some activations are set, one after the other: what z, q, k and v were in the end, and the difference.

    puts: (activation, index, value).
    """
    seen, puts = {}, list(puts)

    def hook_for(name):
        def hook(activation, hook):
            activation = activation.clone()
            for where, index, value in puts:
                if where == name:
                    activation[0][index] = value
            seen[name] = activation[0]
            return activation

        return name, hook

    names = [f"blocks.{layer}.attn.hook_{site}" for layer in range(ioi.subject.bridge.cfg.n_layers) for site in "zqkv"]
    difference = plain_difference(ioi, batch, [hook_for(name) for name in names])
    return seen, difference


def plain_path(
    ioi: IOI,
    prompt: Prompt,
    senders: Iterable[Head],
    *,
    to: Iterable[Head] | None = None,
    into: str = "q",
    at: str = "END",
    corruption: str = "ABC",
    without: Iterable[Head] = (),
) -> tuple[float, float]:
    """Path patching in four passes (Wang et al. 2022, appendix B): the logit difference before and after.

    without: heads that are at their mean over p_ABC at END in all passes.
    """
    clean = alone(ioi, prompt)
    where = int(clean.positions[at][0])
    a, before = _without_at_end(ioi, prompt, prompt, tuple(without))
    b, _ = _without_at_end(ioi, prompt, prompt.changed(corruption), tuple(without))
    everything = (slice(None),)
    frozen = [(z_name(layer), everything, a[z_name(layer)]) for layer in range(ioi.subject.bridge.cfg.n_layers)]
    sent = [(z_name(layer), (where, head), b[z_name(layer)][where, head]) for layer, head in senders]
    c, after = watch(ioi, clean, [*frozen, *sent])
    if to is not None:
        names = [(f"blocks.{layer}.attn.hook_{into}", head) for layer, head in to]
        after = watch(ioi, clean, [(name, (where, head), c[name][where, head]) for name, head in names])[1]
    return before, after


def _without_at_end(ioi: IOI, prompt: Prompt, said: Prompt, heads: tuple[Head, ...]) -> tuple[dict[str, torch.Tensor], float]:
    """Passes A and B, each made once: what is said, with heads at END at the mean of the prompt's frame."""
    place = (ioi.subject.name, ioi.subject.mode, ioi.prepend_bos, ioi.seed, ioi.change, prompt, said, heads)
    if place not in PASSES:
        batch = alone(ioi, said)
        end = int(batch.positions["END"][0])
        means = reference_means(ioi, prompt, 16) if heads else {}
        PASSES[place] = watch(ioi, batch, [(z_name(i), (end, head), means[z_name(i)][end, head]) for i, head in heads])
    return PASSES[place]
