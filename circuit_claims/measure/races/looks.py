"""When a race is looked at."""

from circuit_claims.option_checks import FEWEST_PROMPTS

#: Prompts at a race's first look, at which every cell is measured: as few as an interval may be made of.
FIRST_LOOK = FEWEST_PROMPTS


def with_first_look(looks: list[int]) -> list[int]:
    """The looks of a verdict, with a race's first one before them where it comes earlier."""
    return [FIRST_LOOK, *looks] if looks[0] > FIRST_LOOK else looks
