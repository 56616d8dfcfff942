"""Pairs as a population that prompts are drawn from, by seed and each once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int

from circuit_claims.prompts.contrasts.errors import PairsError
from circuit_claims.prompts.contrasts.prompt import CORRUPTED, ContrastPrompt
from circuit_claims.prompts.contrasts.read import Source, read_pairs
from circuit_claims.prompts.contrasts.table import FEWEST_PAIRS, PairTable
from circuit_claims.prompts.source import Corruptions, Half, number_of

DEALT = "answers dealt out anew among pairs of other clusters"


@dataclass(frozen=True)
class Contrasts:
    """Which pairs are meant; two of the same content are equal, wherever they were read.

    half: which half of the clusters, None for all of them: clusters in the order of a hash of their names take turns, so that
    the halves are equally large, and the same on every machine. dealt: answers and foils go to pairs of other clusters, a
    control on which nothing that the model knows of a prompt can tell its answer. space: whether answers follow a space, as
    words do, or stand right behind the text, as the next letter does. only: of the half, these clusters alone; empty for all.
    """

    table: PairTable = field(compare=False, repr=False)
    digest: str
    half: Half | None = None
    dealt: bool = False
    space: bool = True
    only: frozenset[str] = frozenset()

    corruptions: ClassVar[Corruptions] = Corruptions.only(CORRUPTED)

    @classmethod
    def of(
        cls, source: Source, *, half: Half | None = None, dealt: bool = False, space: bool = True, **options: Any
    ) -> "Contrasts":
        """The pairs of a source; options: as `read_pairs` takes them.

        Raises PairsError as that does.
        """
        table = source if isinstance(source, PairTable) else read_pairs(source, **options)
        return cls(table, table.digest, half, dealt, space)

    @property
    def roles(self) -> tuple[str, ...]:
        """What is marked in every text, in the order of the first clean one, and END."""
        return (*self.table.roles, "END")

    @cached_property
    def chosen(self) -> Int[np.ndarray, " pair"]:
        """The numbers of the pairs that are meant, in the order of the table.

        Raises PairsError where these are too few.
        """
        if not self.only:
            return self.in_half
        found = np.array([i for i in self.in_half if self.table.clusters[i] in self.only], dtype=int)
        if len(found) < FEWEST_PAIRS:
            raise PairsError(
                f"{len(self.only)} clusters of {self.table.name} have {len(found)} pairs: give ones with {FEWEST_PAIRS} in all"
            )
        return found

    @cached_property
    def in_half(self) -> Int[np.ndarray, " pair"]:
        """The numbers of the pairs in this half, in the order of the table.

        Raises PairsError where these are too few.
        """
        clusters = self.table.clusters
        if self.half is None:
            return np.arange(len(clusters))
        ordered = sorted(dict.fromkeys(clusters), key=lambda cluster: (number_of(cluster), cluster))
        mine = set(ordered[int(self.half == "verdict") :: 2])
        found = np.array([i for i, cluster in enumerate(clusters) if cluster in mine], dtype=int)
        if len(found) < FEWEST_PAIRS:
            raise PairsError(
                f"the {self.half} half of {self.table.name} has {len(found)} pairs in {len(mine)} clusters: give at least "
                f"{FEWEST_PAIRS} in each half, or take no half"
            )
        return found

    @cached_property
    def _answers_of(self) -> dict[int, int]:
        """Whose answers each pair has: its own, or those of a pair of another cluster, by the numbers of both.

        Pairs stand cluster by cluster, clusters and the pairs in each in a random order, and each takes those of the pair that
        stands as many places further on as the largest cluster has pairs: so no pair keeps its cluster's.

        Raises PairsError where one cluster has more than half of the pairs, or all pairs have the same answers.
        """
        chosen = self.in_half  # clusters that are chosen from it keep the answers that they have in it
        if not self.dealt:
            return dict(zip(chosen.tolist(), chosen.tolist(), strict=True))
        clusters = [self.table.clusters[i] for i in chosen]
        names, sizes = np.unique(np.array(clusters, dtype=object), return_counts=True)
        most = int(sizes.max())
        if 2 * most > len(chosen):
            raise PairsError(
                f"{self.table.name} has {most} of {len(chosen)} pairs in one cluster: answers cannot be dealt out among others"
            )
        if len({(self.table.right[i], self.table.wrong[i]) for i in chosen}) == 1:
            raise PairsError(f"all pairs of {self.table.name} have the same answer and foil: dealing them out changes nothing")
        random = np.random.default_rng([number_of(self.digest) % 2**32, len(chosen)])
        place = dict(zip(names, random.permutation(len(names)), strict=True))
        within = random.permutation(len(chosen))  # clusters may list their pairs in one order of answers
        order = sorted(range(len(chosen)), key=lambda i: (place[clusters[i]], within[i]))
        return {int(chosen[i]): int(chosen[order[(at + most) % len(order)]]) for at, i in enumerate(order)}

    def check(self) -> None:
        """Raise PairsError where the half has too few pairs, or answers cannot be dealt out."""
        _ = self._answers_of

    def __len__(self) -> int:
        return len(self.chosen)

    def __str__(self) -> str:
        which = "" if self.half is None else f", the {self.half} half"
        which += f", of {len(self.only)} clusters" if self.only else ""
        left_out = f" ({self.table.left_out} that stood there twice left out)" if self.table.left_out else ""
        return f"{len(self)} pairs of {self.table.name}{left_out}{which}{f', {DEALT}' if self.dealt else ''}"

    def about(self, under: str, usual_names: Sequence[str]) -> str:
        """Which prompts these are, in words, `under` a change."""
        return str(self) + under.replace(f", {DEALT}", "")  # once is enough

    def of_the_form_of(self, prompt: ContrastPrompt) -> "Contrasts":
        """The pairs that a mean ablation averages over: those of both halves, whatever their answers."""
        return replace(self, half=None, dealt=False, only=frozenset())

    def order(self, seed: int) -> list[int]:
        """The numbers of the pairs in the order in which they are drawn."""
        random = np.random.default_rng([seed, number_of(self.digest) % 2**32])
        return self.chosen[random.permutation(len(self))].tolist()

    def prompt(self, number: int) -> ContrastPrompt:
        """The pair of this number."""
        return self.table.prompt(number, self._answers_of[number])

    def stream(self, seed: int) -> Iterator[ContrastPrompt]:
        """All pairs, in a random order by seed.

        Raises ValueError where there is no further one.
        """
        yield from map(self.prompt, self.order(seed))
        raise ValueError(f"there are no more than {self}: ask for fewer")
