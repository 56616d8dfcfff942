"""Each sweep as a plain loop of hooks over the forward pass of transformers: one intervention, one pass.

The model is Llama's architecture as transformers loads it, with attention as it chooses it and the logits of END alone. As in
`benchmarks.peers`, a loop can be thinned out (`every`).
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from benchmarks.gpt2_small_shaped import Work
from benchmarks.peers import Answer

#: Given what goes into a module, in place.
Setting = Callable[[Tensor], None]


def _difference(work: Work, tokens: Tensor, settings: Sequence[tuple[nn.Module, Setting]] = ()) -> Float[Tensor, ""]:
    """The mean logit difference of a pass in which what goes into these modules is set."""
    with ExitStack() as stack:
        for module, put in settings:

            def hook(module: nn.Module, args: tuple[Any, ...], put: Setting = put) -> tuple[Any, ...]:
                changed = args[0].clone()
                put(changed)
                return (changed, *args[1:])

            stack.callback(module.register_forward_pre_hook(hook).remove)
        logits = work.own(input_ids=tokens, use_cache=False, logits_to_keep=1).logits[:, -1]
    last = logits.gather(1, work.answers)
    return (last[:, 0] - last[:, 1]).mean()


def _inputs(work: Work, tokens: Tensor, modules: Sequence[nn.Module]) -> list[Tensor]:
    """What goes into these modules in a pass over the prompts."""
    found: list[Tensor] = []
    with ExitStack() as stack:
        for module in modules:
            hook = module.register_forward_pre_hook(lambda _, args: found.append(args[0].clone()))
            stack.callback(hook.remove)
        work.own(input_ids=tokens, use_cache=False, logits_to_keep=1)
    return found


def _projections(work: Work) -> list[nn.Module]:
    return [layer.self_attn.o_proj for layer in work.own.model.layers]


def _head(work: Work, head: int) -> slice:
    return slice(head * work.model.d_head, (head + 1) * work.model.d_head)


@torch.inference_mode()
def heads_at_end(work: Work, every: int) -> Answer:
    """z of one head at END, clean into corrupted."""
    model, modules = work.model, _projections(work)
    clean, n = _inputs(work, work.clean, modules), model.n_layers * model.n_heads
    values, places = [], list(range(0, n, every))
    for place in places:
        layer, columns = place // model.n_heads, _head(work, place % model.n_heads)

        def put(z: Tensor, new: Tensor = clean[layer], columns: slice = columns) -> None:
            z[:, -1, columns] = new[:, -1, columns]

        values.append(_difference(work, work.corrupted, [(modules[layer], put)]))
    return Answer(torch.stack(values), torch.tensor(places), n)


@torch.inference_mode()
def heads_at_every_position(work: Work, every: int) -> Answer:
    """z of one head at one position, clean into corrupted."""
    model, modules = work.model, _projections(work)
    clean, n = _inputs(work, work.clean, modules), model.n_layers * work.n_tokens * model.n_heads
    values, places = [], list(range(0, n, every))
    for place in places:
        rest, head = divmod(place, model.n_heads)
        (layer, pos), columns = divmod(rest, work.n_tokens), _head(work, head)

        def put(z: Tensor, new: Tensor = clean[layer], pos: int = pos, columns: slice = columns) -> None:
            z[:, pos, columns] = new[:, pos, columns]

        values.append(_difference(work, work.corrupted, [(modules[layer], put)]))
    return Answer(torch.stack(values), torch.tensor(places), n)


@torch.inference_mode()
def residual_stream(work: Work, every: int) -> Answer:
    """The stream before one layer at one position, clean into corrupted."""
    model, layers = work.model, list(work.own.model.layers)
    clean, n = _inputs(work, work.clean, layers), model.n_layers * work.n_tokens
    values, places = [], list(range(0, n, every))
    for place in places:
        layer, pos = divmod(place, work.n_tokens)

        def put(stream: Tensor, new: Tensor = clean[layer], pos: int = pos) -> None:
            stream[:, pos] = new[:, pos]

        values.append(_difference(work, work.corrupted, [(layers[layer], put)]))
    return Answer(torch.stack(values), torch.tensor(places), n)


@torch.inference_mode()
def paths_to_logits(work: Work, every: int) -> Answer:
    """Wang et al. 2022, appendix B: all heads as they are on the clean prompts but one at END, MLPs recomputed."""
    model, modules = work.model, _projections(work)
    clean, corrupted = _inputs(work, work.clean, modules), _inputs(work, work.corrupted, modules)
    n = model.n_layers * model.n_heads
    values, places = [], list(range(0, n, every))
    for place in places:
        layer, columns = place // model.n_heads, _head(work, place % model.n_heads)
        settings: list[tuple[nn.Module, Setting]] = []
        for at, module in enumerate(modules):

            def put(z: Tensor, at: int = at, layer: int = layer, columns: slice = columns) -> None:
                z.copy_(clean[at])
                if at == layer:
                    z[:, -1, columns] = corrupted[at][:, -1, columns]

            settings.append((module, put))
        values.append(_difference(work, work.clean, settings))
    return Answer(torch.stack(values), torch.tensor(places), n)


def attribution_patching(work: Work, every: int = 1) -> Answer:
    """Two passes and one backward: first-order estimates of z of all heads at END, clean into corrupted."""
    model, modules = work.model, _projections(work)
    kept: list[Tensor] = []
    with torch.inference_mode(False), torch.enable_grad(), ExitStack() as stack:
        with torch.no_grad():
            clean = _inputs(work, work.clean, modules)
        embeddings = work.own.get_input_embeddings()
        stack.callback(embeddings.register_forward_hook(lambda module, args, out: out.requires_grad_()).remove)
        for module in modules:
            stack.callback(module.register_forward_pre_hook(lambda _, args: kept.append(args[0])).remove)
        logits = work.own(input_ids=work.corrupted, use_cache=False, logits_to_keep=1).logits[:, -1]
        last = logits.gather(1, work.answers)
        metric = (last[:, 0] - last[:, 1]).mean()
        gradients = torch.autograd.grad(metric, kept)
    change = [
        ((new - old) * gradient)[:, -1].unflatten(-1, (model.n_heads, -1)).sum((0, 2))
        for new, old, gradient in zip(clean, kept, gradients, strict=True)
    ]
    values = metric.detach() + torch.cat(change).detach()
    return Answer(values, torch.arange(len(values)), len(values))
