"""Claims that had another id in an earlier version: in reports, on cards and in comparisons the old one means the new one."""

#: Beginnings of old ids, each with what stands in its place now. The first that fits is taken.
RENAMED: tuple[tuple[str, str], ...] = (
    ("other_circuits/acronyms/", "acronyms/letter_movers/"),
    ("other_circuits/greater_than/", "greater_than/year_spans/"),
    ("other_circuits/copy_suppression/", "copy_suppression/self_suppression/"),
    ("other_circuits/full_copying/", "copy_suppression/full_copying/"),
    (
        "other_circuits/successors/the_circuit_of_numerals_counts_better_than_those_of_other_tasks[months circuit]",
        "successors/counting/the_circuit_of_numerals_counts_better_than_those_of_other_tasks[months]",
    ),
    (
        "other_circuits/successors/the_circuit_of_numerals_counts_better_than_those_of_other_tasks[IOI circuit]",
        "successors/counting/the_circuit_of_numerals_counts_better_than_those_of_other_tasks[names]",
    ),
    ("other_circuits/successors/a_circuit_of_numbers_", "successors/counting/a_circuit_of_numbers_"),
    ("other_circuits/successors/the_circuit_of_", "successors/counting/the_circuit_of_"),
    ("other_circuits/successors/", "successors/next_scores/"),
)


def current_id(claim_id: str) -> str:
    """The id that a claim has in this version; one that was never renamed stays as it is."""
    for old, new in RENAMED:
        if claim_id.startswith(old):
            return new + claim_id[len(old) :]
    return claim_id
