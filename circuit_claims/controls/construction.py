"""From the plan of a circuit to the weights of a GPT-2: which subspace each head reads and writes, as matrices.

Layer norm is kept harmless by the ballast, two constant dimensions that dominate the variance at every position: it then
divides by nearly the same number everywhere, and whatever reads from the stream multiplies by that number. Heads without a
job, and MLPs but for what the first one is given to do, hold small noise that does not see the ballast.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from circuit_claims.controls.plan import EMBEDDED, FREQUENCIES, PERIOD, WIDTHS, Job, Look, Plan
from circuit_claims.controls.spherical_codes import spread_codes, turn, waves
from circuit_claims.controls.vocabulary import CONTINUATIONS, PERSONS, token_ids
from circuit_claims.heads import Head

LAYERS, HEADS, WIDTH, HEAD_WIDTH, MLP_WIDTH, POSITIONS = 12, 12, 768, 64, 3072, 1024

BALLAST = 30.0
#: What layer norm divides by, with the ballast and codes of about length 3 beside it.
NORM = ((2 * BALLAST**2 + 9) / WIDTH) ** 0.5

#: Flags are kept so many times enlarged, since strong scores hang on them, and noise would show.
ENLARGED = {"first": 4.0, "to": 4.0, "person": 4.0}

#: Logits at "to", where a name that nobody mentioned has about 0: of each word that English may put there, and of the others.
CONTINUATION_LOGIT, OTHER_LOGIT = -1.0, -6.0

#: Standard deviations of the noise: what reads the stream, what writes a head's output, what writes an MLP's.
READING_NOISE, HEAD_NOISE, MLP_NOISE = 0.05, 0.003, 0.0005
#: Heads without a job copy names a little or write against them, each to its own degree, of this standard deviation.
COPYING_NOISE = 0.0022


def _layout() -> dict[str, slice]:
    """Where in the stream each subspace lies."""
    places, first = {}, 0
    for name, width in WIDTHS.items():
        places[name] = slice(first, first + width)
        first += width
    assert first <= WIDTH
    return places


PLACES = _layout()
READABLE = torch.ones(WIDTH, 1)
READABLE[PLACES["ballast"]] = READABLE[PLACES["first"]] = 0.0


def codes() -> tuple[Float[Tensor, "token 40"], Float[Tensor, "token 36"]]:
    """The code of every token, and the code of every name, which is nothing for other tokens."""
    ids = token_ids()
    tokens = spread_codes(len(ids), WIDTHS["token"], seed=0)
    names = torch.zeros(len(ids), WIDTHS["name"], dtype=torch.float64)
    names[[ids[name] for name in PERSONS]] = spread_codes(len(PERSONS), WIDTHS["name"], seed=1)
    return tokens, names


def planted_weights(plan: Plan, seed: int = 0) -> dict[str, Float[Tensor, "..."]]:
    """The state of a `GPT2LMHeadModel` with this plan in its heads; its unembedding is its token embedding, as in GPT-2."""
    tokens, names = codes()
    state = _embeddings(tokens, names)
    for layer in range(LAYERS):
        generator = torch.Generator().manual_seed(1000 * seed + layer)
        block = _Block(generator)
        for head in range(HEADS):
            # The noise is drawn for every head, so that a head's depends on nothing but its place.
            block.add_noise(head)
            job = plan.get(Head(layer, head))
            if job is not None:
                block.add_job(head, job, tokens)
        if layer == 0:
            block.complete_the_embedding(tokens, names)
        state |= {f"transformer.h.{layer}.{name}": value for name, value in block.state().items()}
    state |= {"transformer.ln_f.weight": torch.ones(WIDTH), "transformer.ln_f.bias": torch.zeros(WIDTH)}
    return state


def _embeddings(tokens: Float[Tensor, "token 40"], names: Float[Tensor, "token 36"]) -> dict[str, Tensor]:
    ids = token_ids()
    words = torch.zeros(len(ids), WIDTH)
    words[:, PLACES["token"]] = EMBEDDED["token"] * tokens.float()
    words[:, PLACES["name"]] = EMBEDDED["name"] * names.float()
    words[ids["to"], PLACES["to"]] = ENLARGED["to"]
    # From here on as rows of the unembedding, which reads the stream through the last layer norm.
    words[:, PLACES["said"]] = NORM * names.float()
    constant = PLACES["ballast"].start
    no_names = [i for token, i in ids.items() if token not in PERSONS]
    words[no_names, constant] = OTHER_LOGIT * NORM / BALLAST
    words[[ids[word] for word in CONTINUATIONS], constant] = CONTINUATION_LOGIT * NORM / BALLAST
    # "to" is not to be read off its own flag.
    words[ids["to"], constant] -= ENLARGED["to"] ** 2 / BALLAST

    positions = torch.zeros(POSITIONS, WIDTH)
    for name, frequencies in FREQUENCIES.items():
        positions[1:, PLACES[name]] = waves(POSITIONS, frequencies, PERIOD)[1:].float()
    positions[0, PLACES["first"]] = ENLARGED["first"]
    positions[:, constant], positions[:, constant + 1] = BALLAST, -BALLAST
    return {"transformer.wte.weight": words, "transformer.wpe.weight": positions}


class _Block:
    """One layer's weights, filled in step by step; as in GPT-2, a matrix is [input, output]."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self.qkv, self.qkv_bias = torch.zeros(WIDTH, 3, HEADS, HEAD_WIDTH), torch.zeros(3, HEADS, HEAD_WIDTH)
        self.out = torch.zeros(HEADS, HEAD_WIDTH, WIDTH)
        self.mlp_in, self.mlp_bias = READING_NOISE * self._noise(WIDTH, MLP_WIDTH) * READABLE, torch.zeros(MLP_WIDTH)
        self.mlp_out = MLP_NOISE * self._noise(MLP_WIDTH, WIDTH)

    def _noise(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def add_noise(self, head: int) -> None:
        """Fill a head with noise, and let it copy names to a degree of its own."""
        self.qkv[:, :, head] = READING_NOISE * self._noise(WIDTH, 3 * HEAD_WIDTH).view(WIDTH, 3, -1) * READABLE[:, None]
        self.out[head] = HEAD_NOISE * self._noise(HEAD_WIDTH, WIDTH)
        copies = COPYING_NOISE * float(self._noise(1))
        width = WIDTHS["name"]
        self.qkv[PLACES["name"], 2, head, :width] += torch.eye(width)
        self.out[head, :width, PLACES["said"]] += copies * torch.eye(width)

    def add_job(self, head: int, job: Job, tokens: Float[Tensor, "token 40"]) -> None:
        """Give a head its job in place of its noise.

        Terms with the same key share its dimensions of the head, and moves from the same source share its dimensions.
        """
        self.qkv[:, :, head], self.out[head] = 0.0, 0.0
        query, key, value = (self.qkv[:, i, head] for i in range(3))
        used = 0
        for look in _by_key(job):
            reads = _key_reads(look[0], tokens)
            columns = slice(used, used + reads.shape[1])
            used = columns.stop
            key[PLACES[look[0].key], columns] = _scale(look[0].key) * reads
            for term in look:
                strength = term.strength * HEAD_WIDTH**0.5  # by which scores are divided
                if term.query:
                    turned = turn(FREQUENCIES[term.query], PERIOD, -term.back) if term.back else torch.eye(reads.shape[1])
                    query[PLACES[term.query], columns] += strength * _scale(term.query) * turned.float()
                else:
                    self.qkv_bias[0, head, columns] += strength
        assert used <= HEAD_WIDTH, f"{used} dimensions of queries and keys"
        used = 0
        for source in dict.fromkeys(move.source for move in job.moves):
            width = WIDTHS[source] if source else 1
            columns = slice(used, used + width)
            used = columns.stop
            if source:
                value[PLACES[source], columns] = _scale(source) * torch.eye(width)
            else:  # 1, and 0 at the sink
                value[PLACES["first"], columns] = -_scale("first")
                self.qkv_bias[2, head, columns] = 1.0
            for move in job.moves:
                if move.source == source:
                    self.out[head, columns, PLACES[move.target]] += move.strength * torch.eye(width)
        assert used <= HEAD_WIDTH, f"{used} dimensions of values"

    def complete_the_embedding(self, tokens: Float[Tensor, "token 40"], names: Float[Tensor, "token 36"]) -> None:
        """Let the MLP write the rest of each token's codes, and pass on what the duplicate-token heads of its layer found.

        One neuron a token: it fires at its own token, but for names at the first position, which are to be no names, since
        there is the sink. What is passed on takes two neurons a dimension: gelu(x) − gelu(−x) = x.
        """
        count, fires = len(tokens), 8.0
        self.mlp_in[:, :count], self.mlp_out[:count] = 0.0, 0.0
        gain = 2.5 * fires * NORM
        self.mlp_in[PLACES["token"], :count] = gain * tokens.T.float() / EMBEDDED["token"]
        self.mlp_in[PLACES["first"], :count] = -4 * gain / ENLARGED["first"]
        self.mlp_bias[:count] = -0.6 * 2.5 * fires
        self.mlp_out[:count, PLACES["token"]] = (1 - EMBEDDED["token"]) * tokens.float() / fires
        self.mlp_out[:count, PLACES["name"]] = (1 - EMBEDDED["name"]) * names.float() / fires
        self.mlp_out[:count, PLACES["person"]] = ENLARGED["person"] * (names.norm(dim=1, keepdim=True) > 0).float() / fires
        for found, target in (("found", "repeated"), ("address found", "address repeated")):
            for sign in (1.0, -1.0):
                neurons = slice(count, count + WIDTHS[found])
                count = neurons.stop
                self.mlp_in[:, neurons], self.mlp_out[neurons] = 0.0, 0.0
                self.mlp_in[PLACES[found], neurons] = sign * NORM * torch.eye(WIDTHS[found])
                self.mlp_out[neurons, PLACES[target]] = sign * torch.eye(WIDTHS[found])

    def state(self) -> dict[str, Tensor]:
        """The weights under their names in a GPT-2 block."""
        norms = {f"ln_{i}.weight": torch.ones(WIDTH) for i in (1, 2)} | {f"ln_{i}.bias": torch.zeros(WIDTH) for i in (1, 2)}
        return norms | {
            "attn.c_attn.weight": self.qkv.reshape(WIDTH, 3 * WIDTH),
            "attn.c_attn.bias": self.qkv_bias.reshape(-1),
            "attn.c_proj.weight": self.out.reshape(WIDTH, WIDTH),
            "attn.c_proj.bias": torch.zeros(WIDTH),
            "mlp.c_fc.weight": self.mlp_in,
            "mlp.c_fc.bias": self.mlp_bias,
            "mlp.c_proj.weight": self.mlp_out,
            "mlp.c_proj.bias": torch.zeros(WIDTH),
        }


def _scale(space: str) -> float:
    """What reads a subspace through a layer norm is multiplied by this, to find it as long as it is meant."""
    return NORM / ENLARGED.get(space, 1.0)


def _by_key(job: Job) -> list[list[Look]]:
    """A head's looks, those with the same key together."""
    groups: dict[tuple[str, str], list[Look]] = {}
    for look in job.looks:
        groups.setdefault((look.key, look.word), []).append(look)
    return list(groups.values())


def _key_reads(look: Look, tokens: Float[Tensor, "token 40"]) -> Float[Tensor, "space column"]:
    """How a key's subspace is read: as it is, or along the code of one word."""
    if look.word:
        return tokens[token_ids()[look.word]].float()[:, None]
    return torch.eye(WIDTHS[look.key])
