"""The residual stream of a model's own forward pass, noted at its layers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn


class _Reached(Exception):
    """The layer is reached, and nothing behind it is asked for."""


@contextmanager
def streams_before(layers: Sequence[nn.Module], *, only: bool = False) -> Iterator[list[Float[Tensor, "row pos d_model"]]]:
    """The stream before each of these layers in the pass that is made in here, and after the last, as copies.

    only: end the pass at the first of them, and note the stream before it alone.
    """
    found: list[Tensor] = []

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append((args[0] if args else kwargs["hidden_states"]).detach().clone())
        if only:
            raise _Reached

    def after(module: nn.Module, args: Any, output: Any) -> None:
        found.append((output if isinstance(output, Tensor) else output[0]).detach().clone())

    handles = [layer.register_forward_pre_hook(before, with_kwargs=True) for layer in layers]
    handles += [] if only else [layer.register_forward_hook(after) for layer in layers[-1:]]
    try:
        yield found
    except _Reached:
        pass
    finally:
        for handle in handles:
            handle.remove()
