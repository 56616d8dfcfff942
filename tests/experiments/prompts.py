"""Prompts of the embedded model's words, and its plain forward pass."""

import torch

from circuit_claims.subjects.subject import Subject

STORE = "When Mary and John went to the store, John gave a drink to"
OTHER = "When Mary and John went to the store, Mary gave a drink to"
OXYGEN = "Water is made of hydrogen and"
FRANCE, ITALY = "The capital of France is", "The capital of Italy is"


def tokens_of(model: Subject, text: str) -> torch.Tensor:
    """Without BOS."""
    return torch.tensor([model.tokenizer(text, add_special_tokens=False).input_ids])


def plain_logits(model: Subject, tokens: torch.Tensor, hooks=()) -> torch.Tensor:
    """Logits at END of a pass through the bridge's own hooks."""
    with torch.inference_mode():
        return model.bridge.run_with_hooks(tokens, fwd_hooks=list(hooks), prepend_bos=False)[0, -1].double()


def plain_cache(model: Subject, tokens: torch.Tensor):
    """All activations of the untouched pass."""
    with torch.inference_mode():
        return model.bridge.run_with_cache(tokens, prepend_bos=False)[1]


def put(name: str, where: tuple, value: torch.Tensor):
    """A hook that sets one place of the only prompt's activation."""

    def hook(activation, hook):
        activation = activation.clone()
        activation[(0, *where)] = value
        return activation

    return name, hook
