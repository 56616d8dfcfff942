"""The blocks in which prompts are measured: of fixed bounds, so that who asks for more prompts pays only for what is new."""

from circuit_claims.option_checks import FEWEST_PROMPTS

#: A verdict's earliest look: on as few prompts as an interval may be made of. A block ends there.
FIRST_LOOK = FEWEST_PROMPTS
#: The look after it, and as many prompts as are measured at a time.
FULL_LOOK = 120


def at_a_time(first: int) -> int:
    """Of how many prompts a block is, where verdicts look first at so many: a look ends where a block does."""
    return FULL_LOOK if first == FIRST_LOOK else first


def blocks(n: int, size: int) -> list[tuple[int, int]]:
    """The blocks of n prompts, each from its first prompt to the one after its last: of `size` prompts, the first in two parts.

    Raises ValueError for a size of less than one prompt.
    """
    if size < 1:
        raise ValueError(f"a block holds one prompt or more, and not {size}")
    ends = {*range(size, n, size), n, *([FIRST_LOOK] if min(n, size) > FIRST_LOOK else [])} - {0}
    return list(zip([0, *sorted(ends)], sorted(ends), strict=False))
