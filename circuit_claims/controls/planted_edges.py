"""The edges of the planted circuit, read off its plan: what each sender writes that each receiver reads.

An edge is in the circuit where its sender writes a subspace that its receiver reads, what is written there depends on which
names the prompt has, and it lies on a way from the embedding to the logits. What stays the same with other names in their
places (flags of words and of positions, addresses) carries nothing that a corrupted prompt changes: noising such an edge has
no effect, and it is no edge of the circuit, though the model needs it.

A head does nothing where it has nothing to look for: a term of its attention counts where somebody before it writes what it
asks with and what it looks for, and with no such term the head rests at the sink. So a variant that lacks heads lacks the
edges of those, and of whoever lives on what they write.

Heads without a job copy names to a degree of their own, MLPs but the first hold noise, and layer norm lets everything see
everything else a little; none of this is in the plan.
"""

from circuit_claims.controls.plan import Job, Plan
from circuit_claims.heads import Reader

#: How many layers the planted model has.
LAYERS = 12

#: What is the same whichever names stand in a prompt: "" is what every position has.
SAME_FOR_ALL_NAMES = frozenset({"", "first", "to", "address", "slow", "fine", "person", "address before", "ballast"})
#: What the embedding holds of a token, where names are. Its rows of the unembedding are read at END alone, where no name is.
EMBEDDING_WRITES = frozenset({"token", "name"})
#: What MLP 0 is given to do (`circuit_claims.controls.construction`): complete the codes, and pass on what was found.
MLP_READS = frozenset({"token", "found", "address found"})
MLP_WRITES = frozenset({"token", "name", "repeated", "address repeated"})
#: What the unembedding reads.
LOGITS_READ = frozenset({"said"})

#: Which subspaces travel along each edge, by how edges are written ("L0H1 -> L2H3.q").
Carried = dict[str, frozenset[str]]


def wired(jobs: Plan) -> Carried:
    """All edges whose receiver reads what the sender writes and names change, whether or not it then reaches the logits.

    Those that do are the circuit: `circuit_claims.edge_discovery.planted`.
    """
    writers: list[tuple[str, frozenset[str]]] = [("embed", EMBEDDING_WRITES)]
    there = set(EMBEDDING_WRITES | SAME_FOR_ALL_NAMES)
    found: Carried = {}

    def connect(receiver: str, reads: frozenset[str]) -> None:
        for sender, writes in writers:
            if shared := (reads & writes) - SAME_FOR_ALL_NAMES:
                found[f"{sender} -> {receiver}"] = shared

    for layer in range(LAYERS):
        here: list[tuple[str, frozenset[str]]] = []
        for head, job in sorted(jobs.items()):
            if head.layer != layer:
                continue
            for which, reads in inputs_of(job, frozenset(there)).items():
                connect(f"{head}.{which}", reads)
            if writes := written_by(job, frozenset(there)):
                here.append((str(head), writes))
        writers += here
        there.update(*(writes for _, writes in here))
        if layer == 0:
            connect("MLP0", MLP_READS)
            writers.append(("MLP0", MLP_WRITES))
            there |= MLP_WRITES
    connect("logits", LOGITS_READ)
    return found


def inputs_of(job: Job, there: frozenset[str]) -> dict[Reader, frozenset[str]]:
    """What a head's queries, keys and values read, of what somebody before it has written."""
    looks = [look for look in job.looks if {look.query, look.key} <= there and not look.word]
    if not written_by(job, there):
        return {}
    moved = frozenset(move.source for move in job.moves)
    return {"q": frozenset(look.query for look in looks), "k": frozenset(look.key for look in looks), "v": moved & there}


def written_by(job: Job, there: frozenset[str]) -> frozenset[str]:
    """What a head writes, of what somebody before it has written; nothing where there is nothing that it could look for."""
    if not any({look.query, look.key} <= there and look.key != "first" for look in job.looks):
        return frozenset()
    return frozenset(move.target for move in job.moves if move.source in there)
