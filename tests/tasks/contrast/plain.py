"""Slow, plain twins for pairs: one text at a time, whole forward passes through TransformerBridge's own hooks.

Nothing here uses the engine, the batches, or the code that finds marks: a position is counted by tokenizing what stands before.
"""

from collections.abc import Iterable, Sequence

import torch

from circuit_claims.heads import Head
from circuit_claims.prompts.contrasts.prompt import Answer, ContrastPrompt
from circuit_claims.subjects.subject import Subject

#: The activations of each part of a head, as TransformerLens names them.
HOOKS = {"output": "hook_z", "q": "hook_q", "k": "hook_k", "v": "hook_v", "pattern": "hook_pattern"}
#: What a layer has at a position, likewise.
BLOCKS = {"resid_pre": "hook_resid_pre", "attn_out": "hook_attn_out", "mlp_out": "hook_mlp_out"}
Hook = tuple[str, "object"]


class Plain:
    """One subject, text by text."""

    def __init__(self, subject: Subject, *, bos: bool = False) -> None:
        self.subject, self.bridge, self.bos = subject, subject.bridge, bos
        self.layers, self.heads = subject.bridge.cfg.n_layers, subject.bridge.cfg.n_heads

    def tokens(self, text: str) -> torch.Tensor:
        ids = self.subject.tokenizer(text, add_special_tokens=False).input_ids
        return torch.tensor([[self.subject.tokenizer.bos_token_id] * self.bos + ids])

    def token(self, word: Answer) -> int:
        """The first token of a word behind a space."""
        return self.subject.tokenizer(f" {word}", add_special_tokens=False).input_ids[0]

    def place(self, prompt: ContrastPrompt, role: str) -> int:
        """Where a role stands: of a mark, its last token."""
        if role == "END":
            return self.tokens(prompt.text).shape[1] - 1
        ends = {mark.name: mark.end for mark in prompt.marks}
        return self.tokens(prompt.text[: ends[role]]).shape[1] - 1

    def logits(self, prompt: ContrastPrompt, hooks: Iterable[Hook] = ()) -> torch.Tensor:
        """The logits at the last position of a pass with hooks."""
        with torch.inference_mode():
            return self.bridge.run_with_hooks(self.tokens(prompt.text), fwd_hooks=list(hooks), prepend_bos=False)[
                0, -1
            ].double()

    def seen(self, prompt: ContrastPrompt, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """Some activations of the untouched pass."""
        found: dict[str, torch.Tensor] = {}

        def look(name: str) -> Hook:
            def hook(activation, hook):
                found[name] = activation[0].clone()

            return name, hook

        self.logits(prompt, [look(name) for name in names])
        return found

    def difference(self, prompt: ContrastPrompt, hooks: Iterable[Hook] = (), *, of: ContrastPrompt | None = None) -> float:
        """The mean logit of the answers minus that of the foils; of: whose, where it is another prompt's."""
        logits, judged = self.logits(prompt, hooks), of or prompt
        sides = [[float(logits[self.token(word)]) for word in side] for side in (judged.right, judged.wrong)]
        return sum(sides[0]) / len(sides[0]) - sum(sides[1]) / len(sides[1])

    def head_hook(self, part: str, head: Head, values: torch.Tensor, there: Sequence[int], here: Sequence[int]) -> Hook:
        """A hook that sets a part of a head at positions `there` to what `values` has at positions `here`."""
        name = f"blocks.{head.layer}.attn.{HOOKS[part]}"

        def hook(activation, hook):
            activation = activation.clone()
            if part == "pattern":
                activation[0, head.head, list(there)] = values[head.head, list(here)]
            else:
                activation[0, list(there), head.head] = values[list(here), head.head]
            return activation

        return name, hook

    def block_hook(self, site: str, layer: int, values: torch.Tensor, there: int, here: int) -> Hook:
        """Likewise of what a layer has at a position."""

        def hook(activation, hook):
            activation = activation.clone()
            activation[0, there] = values[here]
            return activation

        return f"blocks.{layer}.{BLOCKS[site]}", hook

    def patched(
        self, base: ContrastPrompt, source: ContrastPrompt, heads: Sequence[Head], part: str, at: str | None, of: ContrastPrompt
    ) -> float:
        """The difference on `base` with a part of heads from `source`, at a role's position in each, or at all positions."""
        names = {head: f"blocks.{head.layer}.attn.{HOOKS[part]}" for head in heads}
        values = self.seen(source, list(set(names.values())))
        if at is None:
            there = here = range(self.tokens(base.text).shape[1])
        else:
            there, here = [self.place(base, at)], [self.place(source, at)]
        return self.difference(base, [self.head_hook(part, head, values[names[head]], there, here) for head in heads], of=of)
