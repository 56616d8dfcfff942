"""Whether the sign of the logit difference depends on BOS: some models read a prompt without it as noise.

Gemma 3, which was trained with BOS before every text, puts S above IO without it.
"""

from dataclasses import replace

import numpy as np

from circuit_claims.measure.samples import Samples
from circuit_claims.measure.store import SessionStore
from circuit_claims.prompts.batch import Batch
from circuit_claims.tasks.ioi.task import IOI

#: Prompts that are looked at, with BOS and without.
PROMPTS = 16


def sign_by_bos(ioi: IOI) -> str:
    """One sentence where IO is above S with BOS and below without, or the other way round; empty where it is not.

    A sign is what a 95 % interval of the mean logit difference leaves no doubt of: noise has none. Nothing is measured where
    the tokenizer has no BOS token, and where the model's context has no room for it.
    """
    subject = ioi.subject
    if subject.tokenizer.bos_token_id is None:
        return ""
    with_bos, without = (replace(ioi, prepend_bos=bos, store=SessionStore()) for bos in (True, False))
    engine = subject.choice.engine
    if engine is not None and engine.n_ctx < longest(with_bos.batches(with_bos.prompts(PROMPTS))):
        return ""
    a, b = (task.logit_difference().take(PROMPTS) for task in (with_bos, without))
    sign = sign_of(a)
    if sign * sign_of(b) >= 0:
        return ""
    above, below = ("above", "below") if sign > 0 else ("below", "above")
    return (
        f"IO is {above} S with BOS (mean logit difference {_said(a)}) and {below} without ({_said(b)}): results depend on --bos"
    )


def longest(batches: list[Batch]) -> int:
    """The tokens of the longest prompt."""
    return max(batch.tokens.shape[1] for batch in batches)


def sign_of(samples: Samples) -> int:
    """1 or -1 where the interval of the mean lies on one side of 0, and 0 where it does not or is not finite."""
    if not np.isfinite(samples.values).all():
        return 0
    low, high = samples.mean_interval()
    return int(low > 0) - int(high < 0)


def _said(samples: Samples) -> str:
    return f"{samples.estimate:.1f}".replace("-", "−")
