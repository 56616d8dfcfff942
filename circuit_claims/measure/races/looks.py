"""When a race is looked at."""

from circuit_claims.measure.blocks import FIRST_LOOK

#: Prompts on which every cell is measured before anything else: enough to leave out the cells that are far off.
SCREENING = 16


def with_first_looks(looks: list[int]) -> list[int]:
    """The looks of a verdict, with a race's own before them, where they come earlier."""
    return [*(look for look in (SCREENING, FIRST_LOOK) if look < looks[0]), *looks]
