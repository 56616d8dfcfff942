"""What pairs are judged by: the logit difference unless another metric is named, or given.

Every metric is larger where the model does better, so that shares and recoveries have one sign: ranks and divergences are
counted downwards from zero.
"""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from circuit_claims.prompts.batch import Batch
from circuit_claims.subjects.subject import Subject
from circuit_claims.tasks.metric import LOGIT_DIFFERENCE, PROBABILITY, Metric, answer_probabilities

Logits = Float[Tensor, "*n prompt d_vocab"]
Values = Float[Tensor, "*n prompt"]


def _probability_difference(logits: Logits, batch: Batch) -> Values:
    both = answer_probabilities(logits, batch)
    return both[..., 0] - both[..., 1]


def likelier_tokens(logits: Logits, batch: Batch) -> Values:
    """How many tokens of the vocabulary are likelier than the answer; of several answers, than the likeliest of them."""
    wanted = batch.tokens_compared.expand(*logits.shape[:-1], batch.tokens_compared.shape[-1])
    own = logits.gather(-1, wanted).masked_fill(batch.counted <= 0, -torch.inf).max(-1, keepdim=True).values
    return (logits > own).sum(-1).float()


def _minus_likelier(logits: Logits, batch: Batch) -> Values:
    return -likelier_tokens(logits, batch)


def _minus_divergence(subject: Subject, logits: Logits, batch: Batch) -> Values:
    clean = subject.last_logits(batch.tokens).double().log_softmax(-1)
    return (clean.exp() * (logits.double().log_softmax(-1) - clean)).sum(-1)


#: logit(answer) − logit(foil); of lists, the mean logit of the answers minus that of the foils (auto-circuit's avg_diff).
DIFFERENCE = LOGIT_DIFFERENCE.showing("the answer is ahead of the foil")
#: The probability of the answers minus that of the foils, over the whole vocabulary, added up over lists.
PROBABILITY_DIFFERENCE = Metric(
    "probability difference", "probability", _probability_difference, shows="the answer is likelier than the foil"
)
#: Minus the number of likelier tokens: 0 where the answer is the likeliest of the vocabulary, −1 where it is the second.
RANK = Metric("rank of the answer below the first", "ranks", _minus_likelier, shows="the answer is the likeliest token")
#: By name, what needs no subject.
METRICS: dict[str, Metric] = {
    "logit difference": DIFFERENCE,
    "probability": PROBABILITY.showing("the answer is likely"),
    "probability difference": PROBABILITY_DIFFERENCE,
    "rank": RANK,
}
KL = "KL"


def metric_named(metric: str | Metric, subject: Subject) -> Metric:
    """A metric by its name, or the one that is given.

    KL: minus the Kullback-Leibler divergence of the model's next-token distribution under whatever is done to it from that on
    the clean prompt, D(clean || now), in nats: 0 for the untouched model.

    Raises ValueError for an unknown name.
    """
    if isinstance(metric, Metric):
        return metric
    if metric == KL:
        of_logits: Callable[..., Values] = partial(_minus_divergence, subject)
        return Metric("minus the KL divergence from the clean prompt", "nats", of_logits, shows="nothing is changed")
    if metric not in METRICS:
        names = ", ".join([*METRICS, KL])
        raise ValueError(f"unknown metric {metric!r}: use one of {names}, or a Metric(name, unit, function) of your own")
    return METRICS[metric]
