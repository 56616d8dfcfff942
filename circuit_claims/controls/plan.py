"""The plan of the planted circuit: which head attends by what and moves what where, and how strongly.

The algorithm is Wang et al. 2022's. The strengths below were fitted once, by gradient descent on a simulation of this plan,
to the numbers that the card `gpt2-small` holds, so that the planted model resembles GPT-2 small not in kind alone. Nothing in
it knows of prompts, roles or claims: a head attends by what stands in the residual stream.

subspace           width  what it holds                                                         who writes it
-----------------  -----  --------------------------------------------------------------------  ------------------------------
first                  1  1 at the first position, where heads without a match rest (the sink)  position embedding
to                     1  1 where the token is "to": what asks for a name                       token embedding
token                 40  which token this is, any token: a code                                embedding, half; MLP 0
address               22  which position this is: waves that tell positions apart               position embedding
slow                   2  one long wave, by which nearer differs from farther                   position embedding
fine                  38  further waves, for looking exactly one position back                  position embedding
name                  36  which name this is; nothing for other words                           embedding, 0.3; MLP 0
person                 1  1 where the token is a name, but at the first position                MLP 0
token before          40  the code of the token before                                          previous-token heads
address before        22  the address of the token before                                       previous-token heads
found                  1  that this token was there before, not yet passed on                   L0H1, L0H10
address found         22  the address where, not yet passed on                                  L0H1, L0H10
repeated               1  that this token was there before                                      MLP 0, L3H0, induction heads
address repeated      22  the address where it was                                              MLP 0, L3H0, induction heads
inhibited name        36  at "to": the name that is not the answer                              S-inhibition heads
inhibited address     22  at "to": the address of that name                                     S-inhibition heads
said                  36  the names to be said, in the code of the unembedding                  movers; S-inhibition, against
ballast                2  +30 and −30 everywhere, by which layer norm changes nothing           position embedding
"""

from typing import NamedTuple

from circuit_claims.heads import Head

WIDTHS: dict[str, int] = {
    "first": 1,
    "to": 1,
    "token": 40,
    "address": 22,
    "slow": 2,
    "fine": 38,
    "name": 36,
    "person": 1,
    "token before": 40,
    "address before": 22,
    "found": 1,
    "address found": 22,
    "repeated": 1,
    "address repeated": 22,
    "inhibited name": 36,
    "inhibited address": 22,
    "said": 36,
    "ballast": 2,
}

#: Positions are waves of these frequencies over this period, a prime above the 1,024 positions. They were searched for:
#: addresses within 64 tokens are alike by 0.3 at most, neighbours by 0.1; with all frequencies, positions within 256 tokens
#: by 0.2.
PERIOD = 1031
FREQUENCIES: dict[str, tuple[int, ...]] = {
    "address": (8, 86, 131, 161, 189, 276, 294, 347, 392, 405, 499),
    "slow": (13,),
    "fine": (97, 113, 128, 176, 183, 186, 205, 212, 236, 251, 254, 267, 331, 341, 402, 419, 482, 493, 504),
}


class Look(NamedTuple):
    """One term of a head's attention scores: strength · ⟨query's subspace, key's subspace⟩.

    query: the subspace read at the query's position; "" for every position alike. key: the subspace read at the key's position.
    back: looks for the position so many before its own. word: the key's subspace counts along the code of this word alone.
    """

    query: str
    key: str
    strength: float
    back: int = 0
    word: str = ""


class Move(NamedTuple):
    """What a head writes of what it attends to: strength · source's subspace into target's.

    source: "" for a constant, of which the sink has none.
    """

    source: str
    target: str
    strength: float


class Job(NamedTuple):
    """What a head does, and in which family."""

    family: str
    looks: tuple[Look, ...]
    moves: tuple[Move, ...]


Plan = dict[Head, Job]


class Inhibitor(NamedTuple):
    """An S-inhibition head.

    name, address: how strongly it writes the name it finds, and the address where that name stood before, for movers to turn
    away from. against: how strongly it writes against the name itself. keenness: how much more a name draws it than the sink
    does.
    """

    name: float
    address: float
    against: float
    keenness: float


class Mover(NamedTuple):
    """A head that attends from "to" to names and writes them.

    writes: how strongly, below 0 for a head that writes against what it finds. heeds: how strongly it turns away from what is
    inhibited. keenness: as above. said: how strongly it looks for what has been said already, below 0 away from it. repeated:
    how strongly it looks for names that stood there before, below 0 away from them. opening: how much less it looks at a name
    that comes after "and".
    """

    writes: float
    heeds: float
    keenness: float
    said: float = 0.0
    repeated: float = -5.109
    opening: float = 0.0


# How strongly each writes that a token was there before, and where.
DUPLICATE_TOKEN: dict[Head, float] = {Head(0, 1): 0.142, Head(0, 10): 0.152, Head(3, 0): 0.106}
INDUCTION: dict[Head, float] = {Head(5, 5): 0.15, Head(5, 8): 0.043, Head(5, 9): 0.12, Head(6, 9): 0.02}

# How strongly each writes the token before, and its address. L3H7 does so too, with a less keen eye, and is in no circuit that
# was published.
PREVIOUS_TOKEN: dict[Head, float] = {Head(2, 2): 0.185, Head(4, 11): 0.32}
OTHER_PREVIOUS_TOKEN: dict[Head, float] = {Head(3, 7): 0.524}

S_INHIBITION: dict[Head, Inhibitor] = {
    Head(7, 3): Inhibitor(0.019, 0.206, 0.252, -0.984),
    Head(7, 9): Inhibitor(0.152, 0.488, 0.454, -0.462),
    Head(8, 6): Inhibitor(0.05, 0.475, 0.243, -0.527),
    Head(8, 10): Inhibitor(0.156, 0.587, 0.453, -0.423),
}

NAME_MOVERS: dict[Head, Mover] = {
    Head(9, 9): Mover(5.409, 0.869, 0.991),
    Head(9, 6): Mover(4.902, 0.901, 1.104),
    Head(10, 0): Mover(1.685, 1.758, 0.868),
}
# Silent while the answer has been said, awake when the name movers are silenced: they look away from what is said.
BACKUPS: dict[Head, Mover] = {
    Head(10, 10): Mover(2.478, 2.464, 0.517, said=-0.732),
    Head(10, 6): Mover(1.724, 2.34, 0.398, said=-0.72),
    Head(10, 2): Mover(2.188, 2.539, 0.711, said=-0.971),
    Head(10, 1): Mover(1.122, 2.288, 0.207, said=-0.691),
    Head(11, 2): Mover(1.108, 1.082, 1.028, said=-0.436),
    Head(9, 7): Mover(-0.75, 1.098, 0.043, repeated=5.109),
    Head(9, 0): Mover(0.134, 2.96, 2.05),
    Head(11, 9): Mover(0.456, 1.709, 0.578, said=-0.182),
}
# They look for what is about to be said, and write against it.
NEGATIVE: dict[Head, Mover] = {
    Head(10, 7): Mover(-2.126, 0.192, -1.456, said=0.392),
    Head(11, 10): Mover(-2.119, 0.067, -0.732, said=0.247),
}
# Movers of the name that opens a sentence: the rest of the model, whose help is not in the published circuit.
OTHER_MOVERS: dict[Head, Mover] = {
    Head(9, 2): Mover(0.043, 2.515, 0.68, opening=4.837),
    Head(9, 8): Mover(0.043, 2.515, 0.68, opening=4.837),
    Head(10, 3): Mover(1.934, 2.515, 0.68, opening=4.837),
}

#: How strongly a head attends to the first position, where it has nothing better: one that looks for names, one that looks
#: for a token or a position, and one that looks for its own token elsewhere. The more chance resemblances there are, the
#: stronger.
SINK, SINK_OF_MATCHES, SINK_OF_REPEATS = 8.0, 16.0, 21.0
TOKEN_MATCH, NOT_ITSELF = 32.0, -20.0
ONE_BACK, LESS_KEENLY_ONE_BACK = 31.0, 19.5
TOKEN_BEFORE_MATCH = 42.0
LOOKS_FOR_REPEATED, LOOKS_NEAR = 1.395, 1.877

#: What MLP 0 has to complete: the token embedding holds so much of these codes.
EMBEDDED = {"token": 0.5, "name": 0.3}


def plan() -> Plan:
    """Every head that has a job."""
    jobs: Plan = {}
    rests = Look("", "first", SINK_OF_MATCHES)
    for head, strength in DUPLICATE_TOKEN.items():
        early = head.layer == 0
        # Before MLP 0, codes have a part of their length alone, at the query and at the key.
        match = TOKEN_MATCH / EMBEDDED["token"] ** 2 if early else TOKEN_MATCH
        looks = [Look("", "first", SINK_OF_REPEATS), Look("token", "token", match), Look("address", "address", NOT_ITSELF)]
        # Of several earlier mentions, the first.
        looks += [] if early else [Look("", "repeated", -1.0)]
        flag, address = ("found", "address found") if early else ("repeated", "address repeated")
        moves = (Move("", flag, strength), Move("address", address, strength))
        jobs[head] = Job("duplicate token", tuple(looks), moves)
    for head, strength in (PREVIOUS_TOKEN | OTHER_PREVIOUS_TOKEN).items():
        waves = {name: len(frequencies) for name, frequencies in FREQUENCIES.items()}
        keenness = (ONE_BACK if head in PREVIOUS_TOKEN else LESS_KEENLY_ONE_BACK) / sum(waves.values())
        looks = [Look(name, name, keenness * count, back=1) for name, count in waves.items()]
        moves = (Move("token", "token before", strength), Move("address", "address before", strength))
        jobs[head] = Job("previous token" if head in PREVIOUS_TOKEN else "other", (rests, *looks), moves)
    for head, strength in INDUCTION.items():
        moves = (Move("", "repeated", strength), Move("address before", "address repeated", strength))
        jobs[head] = Job("induction", (rests, Look("token", "token before", TOKEN_BEFORE_MATCH)), moves)
    rests = Look("", "first", SINK)
    for head, inhibitor in S_INHIBITION.items():
        person = SINK + inhibitor.keenness - LOOKS_FOR_REPEATED
        looks = (Look("to", "person", person), Look("to", "repeated", LOOKS_FOR_REPEATED), Look("slow", "slow", LOOKS_NEAR))
        moves = (
            Move("name", "inhibited name", inhibitor.name),
            Move("address repeated", "inhibited address", inhibitor.address),
            Move("name", "said", -inhibitor.against),
        )
        jobs[head] = Job("S-inhibition", (rests, *looks), moves)
    families = {"name mover": NAME_MOVERS, "backup": BACKUPS, "negative": NEGATIVE, "other": OTHER_MOVERS}
    for family, movers in families.items():
        for head, mover in movers.items():
            looks = (
                rests,
                Look("to", "person", SINK + mover.keenness),
                Look("to", "repeated", mover.repeated),
                Look("inhibited name", "name", -mover.heeds),
                Look("inhibited address", "address", -mover.heeds),
                Look("said", "name", mover.said),
                Look("to", "token before", -mover.opening, word="and"),
            )
            jobs[head] = Job(family, tuple(look for look in looks if look.strength), (Move("name", "said", mover.writes),))
    return jobs
