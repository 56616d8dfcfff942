"""Shapes and dtypes in annotations, checked at every call, for jaxtyping's option of pytest:

    pytest tests/engine --jaxtyping-packages=circuit_claims.engine,circuit_claims.measure,tests.shape_checks.shapes_checked

jaxtyping puts a decorator of one's choice on each function of the packages that it is given. beartype, which it recommends,
refuses methods that return `Self`; this one looks at arrays alone, and leaves all other types to pyright.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from jaxtyping import AbstractArray


def shapes_checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with its arrays held against their annotations: one name is one length throughout a call.

    Raises TypeError, in jaxtyping's words, where an argument or the result has another shape or dtype.
    """
    hints: dict[str, Any] | None = None
    signature = inspect.signature(function)

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        nonlocal hints
        if hints is None:
            hints = _of_arrays(function)
        if not hints:
            return function(*args, **kwargs)
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            if name in hints and not _fits(value, hints[name]):
                raise TypeError(f"{function.__qualname__}: {name} is {_described(value)}, and not {hints[name]}")
        result = function(*args, **kwargs)
        if "return" in hints and not _fits(result, hints["return"]):
            raise TypeError(f"{function.__qualname__} returned {_described(result)}, and not {hints['return']}")
        return result

    return checked


def _of_arrays(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations that are of arrays, or of unions of them and of anything else."""
    try:
        hints = get_type_hints(function)
    except NameError:  # a name that is imported for type checkers alone
        return {}
    return {name: hint for name, hint in hints.items() if any(map(_is_array, _alternatives(hint)))}


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _is_array(hint: Any) -> bool:
    return isinstance(hint, type) and get_origin(hint) is None and issubclass(hint, AbstractArray)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is one of the arrays; what is no array belongs to the other alternatives, which pyright checks."""
    arrays = [one for one in _alternatives(hint) if _is_array(one)]
    if not hasattr(value, "shape") or not any(isinstance(value, one.array_type) for one in arrays):
        return len(arrays) < len(_alternatives(hint)) or isinstance(value, int | float)
    return any(isinstance(value, one) for one in arrays)


def _described(value: Any) -> str:
    return f"{value.dtype} of shape {tuple(value.shape)}" if hasattr(value, "dtype") else type(value).__name__
