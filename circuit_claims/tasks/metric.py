"""What a task judges the model by: one number a prompt, read off the logits at END.

    Metric("logit difference", "logits", first_less_second, tokens=the_answers)
    Metric("probability of IO", "probability", lambda logits, batch: ...)

Names of quantities, and their units, come from the metric: whatever an operation measures is said in its terms.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuit_claims.prompts.batch import Batch

#: Numbers that the logits of the whole vocabulary may hold at a time.
LOGITS_AT_ONCE = 50_000_000


def as_array(tensor: Tensor) -> np.ndarray:
    """A tensor as float64 on the host, where statistics are done."""
    return tensor.detach().double().cpu().numpy()


@dataclass(frozen=True)
class Metric:
    """A number of each prompt, from the logits at END.

    name, unit: as they read in rows: "logit difference", "logits".
    of_logits: from logits `[*n, prompt, token]` and the prompts' batch to numbers `[*n, prompt]`.
    tokens: the tokens whose logits it reads, `[prompt, token]`, which are all that is then unembedded; None for the whole
        vocabulary.
    shows: what is so of a prompt on which it is above zero (see `circuit_claims.measure.samples.Shown`).
    """

    name: str
    unit: str
    of_logits: Callable[[Float[Tensor, "*n prompt token"], Batch], Float[Tensor, "*n prompt"] | Float[np.ndarray, "*n prompt"]]
    tokens: Callable[[Batch], Int[Tensor, "prompt token"]] | None = None
    shows: str = "the right answer is ahead"

    def showing(self, shows: str) -> "Metric":
        """The same, with what a prompt above zero shows in this task."""
        return replace(self, shows=shows)

    def of_last_logits(self, logits: Float[Tensor, "prompt d_vocab"], batch: Batch) -> Float[np.ndarray, " prompt"]:
        """The metric from the logits of the whole vocabulary at END."""
        return self._read(logits if self.tokens is None else logits.gather(1, self.tokens(batch)), batch)

    def of_streams(
        self, model: Any, streams: Float[Tensor, "*n prompt d_model"], batch: Batch
    ) -> Float[np.ndarray, "*n prompt"]:
        """The metric from final residual streams at END; model: the engine, which unembeds them."""
        if self.tokens is not None:
            return self._read(model.answer_logits(streams, self.tokens(batch)), batch)
        prompts, width = streams.shape[-2:]
        flat, parts = streams.reshape(-1, prompts, width), []
        for some in flat.split(max(1, LOGITS_AT_ONCE // (prompts * model.W_U.shape[1]))):
            logits = model.logits(some.reshape(-1, width)).float()
            parts.append(self._read(logits.unflatten(0, (len(some), prompts)), batch))
        return np.concatenate(parts).reshape(streams.shape[:-1])

    def _read(self, logits: Float[Tensor, "*n prompt token"], batch: Batch) -> Float[np.ndarray, "*n prompt"]:
        found = self.of_logits(logits, batch)
        return as_array(found) if isinstance(found, Tensor) else found


def _first_less_second(logits: Float[Tensor, "*n prompt token"], batch: Batch) -> Float[Tensor, "*n prompt"]:
    if batch.weights is None:
        return logits[..., 0] - logits[..., 1]
    return (logits * batch.weights.to(logits.dtype)).sum(-1)


def answer_probabilities(logits: Float[Tensor, "*n prompt d_vocab"], batch: Batch) -> Float[Tensor, "*n prompt 2"]:
    """The probability of the answer and of the other one, over the whole vocabulary; of lists of them, of all together."""
    wanted = batch.tokens_compared.expand(*logits.shape[:-1], batch.tokens_compared.shape[-1])
    found = (logits.gather(-1, wanted) - torch.logsumexp(logits, -1, keepdim=True)).exp()
    if batch.weights is None:
        return found
    return torch.stack([(found * side).sum(-1) for side in (batch.weights > 0, batch.weights < 0)], dim=-1)


def _answer(logits: Float[Tensor, "*n prompt d_vocab"], batch: Batch) -> Float[Tensor, "*n prompt"]:
    return answer_probabilities(logits, batch)[..., 0]


#: The logit of the right answer minus that of the other one (Wang et al. 2022, section 2); of lists, the means of their logits.
LOGIT_DIFFERENCE = Metric("logit difference", "logits", _first_less_second, lambda batch: batch.tokens_compared)
#: The probability of the right answer, over the whole vocabulary.
PROBABILITY = Metric("probability of the answer", "probability", _answer)
