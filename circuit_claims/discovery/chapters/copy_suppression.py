"""Copy suppression: heads of which most tokens are among those that they suppress most, by the weights alone.

Nothing is sampled where all tokens are looked at, so there are no halves here: a card's numbers are those of its weights.
"""

from circuit_claims.cards.card import Card
from circuit_claims.discovery.chapters import Chapter
from circuit_claims.discovery.families import Found
from circuit_claims.discovery.findings import RATE, Findings, Value, rounded, rounded_up
from circuit_claims.discovery.survey import Survey
from circuit_claims.heads import Head
from circuit_claims.tasks.copy_suppression.task import FIRST, TokenCircuits
from circuit_claims.tasks.copy_suppression.token_circuits import CIRCUITS, Circuit
from circuit_claims.untested import Untested

#: Of all tokens, those that have to be among the first in their own row.
MOST = 0.5
#: Of a mean rank: a hundredth of it, and half a rank at least.
RANK, HALF_A_RANK = 0.01, 0.5


def find(survey: Survey, card: Card) -> Chapter:
    """The heads that suppress what they attend to, and the statistics of the strongest one's two circuits."""
    circuits = TokenCircuits(survey.ioi.subject, survey.ioi.seed)
    try:
        sweep = circuits.suppression_sweep().estimate
    except Untested as error:  # of another architecture
        return Chapter(findings={"copy suppression": Findings(left_out={"copy suppression": str(error)})})
    likely = [Head(*map(int, place)) for place in zip(*(sweep > MOST / 2).nonzero(), strict=True)]
    shares = {head: circuits.own_token(head, "OV").among_first().estimate for head in likely}
    heads = sorted((head for head in likely if shares[head] > MOST), key=lambda head: -shares[head])
    if not heads:
        best = Head(*map(int, divmod(int(sweep.argmax()), sweep.shape[1])))
        why = (
            f"no head suppresses most tokens: {best}, the best, has {sweep.max():.3f} of those sampled among the first {FIRST}"
        )
        return Chapter(findings={"copy suppression": Findings(left_out={"copy suppression": why})})
    rule = f"its OV circuit has over half of all tokens among the {FIRST} that they themselves suppress most"
    evidence = {head: f"{shares[head]:.3f} of all tokens" for head in heads}
    values = {key: value for circuit in CIRCUITS for key, value in _statistics(circuits, heads[0], circuit).items()}
    family = Found(tuple(heads), "END", rule, evidence=evidence)
    return Chapter({"copy suppression": family}, {"own tokens, in the strongest head": Findings(values)})


def _statistics(circuits: TokenCircuits, head: Head, circuit: Circuit) -> dict[str, Value]:
    own = circuits.own_token(head, circuit)
    mean, median = own.mean_rank().estimate, own.median_rank().grid.estimate[0, 0]
    rates = {
        "first": own.among_first(1),
        "among_ten": own.among_first(FIRST),
        "beyond_twentieth": own.beyond(0.05),
        "beyond_tenth": own.beyond(0.1),
    }
    found = {f"{circuit}_own_token_{key}": Value(rounded(at.estimate), "rate", within=RATE) for key, at in rates.items()}
    within = rounded_up(max(RANK * mean, HALF_A_RANK))
    found[f"{circuit}_own_token_mean_rank"] = Value(rounded(mean), "rank from 0", within=within)
    found[f"{circuit}_own_token_median_rank"] = Value(float(median), "rank from 0", within=HALF_A_RANK)
    return found
