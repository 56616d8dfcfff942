"""When a race is looked at."""

from circuit_claims.option_checks import FEWEST_PROMPTS

#: Prompts on which every cell is measured before anything else: enough to leave out the cells that are far off.
SCREENING = 16
#: Prompts at the first look that may give a verdict: as few as an interval may be made of.
FIRST_LOOK = FEWEST_PROMPTS


def with_first_looks(looks: list[int]) -> list[int]:
    """The looks of a verdict, with a race's own before them, where they come earlier."""
    return [*(look for look in (SCREENING, FIRST_LOOK) if look < looks[0]), *looks]
