"""Two-digit addition: "23+45=" goes on with "68", after two sums that are worked out.

Sources: Stolfo et al. 2023 (arXiv 2305.15054), two operands, with another operand in the corrupted prompt. Nikankin et al.
2024 (arXiv 2410.21272): the form "x+y=" without spaces (`prompt_generation.py` of the authors' code). MIB (Mueller et al.
2025, PMLR 267) has two-digit addition as a task too.

Before each stand the same two worked sums, with ";" between, as that code has room for: without them, SmolLM2-135M hardly
tells the sums apart (docs/findings/pairs_on_smollm2.md). `pairs(examples="")` makes them without.

The corrupted prompt differs in the tens digit of the first operand, so that the sums differ in their tens, and in nothing
else. GPT-2's tokenizer has every two-digit number as one token, so that there answer and foil are the whole sums; others,
SmolLM2's among them, split numbers into digits, and there the first digit is compared, which is the one that differs. Answers
stand right behind the "=", without a space (`space=False`).

Every sum from 20 to 99 stands in four pairs, against sums of one and of three tens more and less (counted in a circle of the
eight tens), so that the answer is the larger of the two in half of the pairs.
"""

import random
from collections.abc import Iterator

from circuit_claims.prompts.published_tasks.pair import Pair

LEAST = 10
TENS = range(2, 10)
STEPS = (1, -1, 3, -3)
#: Neither carries, and neither sum has an operand of the other.
EXAMPLES = "12+31=43;54+25=79;"
#: Another than that of the pairs on which forms were tried.
SEED = 1


def pairs(examples: str = EXAMPLES) -> Iterator[Pair]:
    """320 pairs of 80 sums, which are the clusters; examples: what stands before each sum."""
    chosen = random.Random(SEED)
    for total in range(10 * TENS.start, 10 * TENS.stop):
        tens, ones = divmod(total, 10)
        for step in STEPS:
            other = 10 * (TENS.start + (tens - TENS.start + step) % len(TENS)) + ones
            second = chosen.randint(LEAST, min(total, other) - LEAST)
            clean, corrupted = (f"{examples}[first: {each - second}][plus: +][second: {second}]=" for each in (total, other))
            yield Pair(clean, corrupted, str(total), str(other), str(total))
