"""Whether a model predicts each token from those before it alone: an encoder looks at those after it, too.

transformers has a class of causal language models for many encoders, and takes an encoder's weights into it without a word.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from circuit_claims.models.subject_error import SubjectError

if TYPE_CHECKING:  # slow to import
    from transformers import PreTrainedModel

#: Tokens of which the last is changed.
LENGTH = 8
#: What rounding may change in the logits before it, as a share of their spread; an encoder's change by some tenths.
ROUNDING = 0.02


def refuse_encoder(path: Path, model: "PreTrainedModel") -> None:
    """Raise SubjectError where all of a model's attention says that it looks at later tokens, too; no weight is needed."""
    said = {bool(module.is_causal) for module in model.modules() if isinstance(getattr(module, "is_causal", None), bool)}
    if said == {False}:
        raise _encoder(path, model)


@torch.no_grad()
def refuse_looking_ahead(path: Path, model: "PreTrainedModel") -> None:
    """Raise SubjectError where a later token changes a loaded model's logits. One whose attention says that it is causal is
    believed.
    """
    if any(getattr(module, "is_causal", False) is True for module in model.modules()):
        return
    first: Any = torch.arange(1, LENGTH + 1)[None]
    second = first.clone()
    second[0, -1] = 0
    one, other = (model(input_ids=tokens, use_cache=False).logits[0, :-1].float() for tokens in (first, second))
    if float((one - other).abs().max()) > ROUNDING * float(one.std()):
        raise _encoder(path, model)


def _encoder(path: Path, model: "PreTrainedModel") -> SubjectError:
    return SubjectError(
        f"the model in {path} is an encoder ({model.config.model_type}), whose predictions depend on later tokens: name a "
        "causal language model, such as GPT-2 or Llama"
    )
