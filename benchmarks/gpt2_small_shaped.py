"""What is timed: a random model of GPT-2 small's shape, as TransformerLens holds it and as the engine does, and its prompts."""

import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuit_claims.engine.decoder.transformer import Transformer
from circuit_claims.engine.protocol import Engine

SEED = 0
#: The bridge, and the engine over it.
Shaped = tuple[Any, Engine]


@dataclass(frozen=True)
class Work:
    """A model, and clean and corrupted prompts for it.

    The two batches differ at every position, so that no sweep is spared a position by what they share: on prompts that share
    their beginning, as IOI's do, the engine is spared those positions, and a loop is not.
    """

    bridge: Any
    model: Engine
    clean: Int[Tensor, "prompt pos"]
    corrupted: Int[Tensor, "prompt pos"]
    answers: Int[Tensor, "prompt two"]
    own: Any = None  # the model as transformers loads it, where a peer is a loop over its own forward pass

    def with_own(self, model: Any) -> "Work":
        """The same with the model as transformers loads it."""
        return replace(self, own=model)

    @property
    def n_prompts(self) -> int:
        """How many prompts there are."""
        return len(self.clean)

    @property
    def n_tokens(self) -> int:
        """How long they are."""
        return self.clean.shape[1]

    @cached_property
    def end(self) -> Int[Tensor, "prompt 1"]:
        """The last position, prompt by prompt."""
        return torch.full((self.n_prompts, 1), self.n_tokens - 1, device=self.clean.device)

    def metric(self, logits: Float[Tensor, "prompt pos d_vocab"]) -> Float[Tensor, ""]:
        """The logit difference at END, averaged over prompts, from all logits, as TransformerLens's functions ask for it."""
        last = logits[:, -1].gather(1, self.answers)
        return (last[:, 0] - last[:, 1]).mean()

    def difference(self, resid: Float[Tensor, "*n prompt d_model"]) -> Float[Tensor, "*n"]:
        """The same from the final residual stream at END."""
        logits = self.model.answer_logits(resid, self.answers)
        return (logits[..., 0] - logits[..., 1]).mean(-1)


def random_gpt2_small(device: str = "cpu") -> tuple[Any, Engine]:
    """A random float32 model of GPT-2 small's shape and vocabulary: its bridge, and the engine's view of it."""
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import GPT2Config, GPT2LMHeadModel

    from circuit_claims.controls.random_weights import GPT2_SMALL, random_weights
    from circuit_claims.controls.vocabulary import save_tokenizer

    given: dict[str, Any] = {"attn_implementation": "eager"}  # which no signature names
    config = GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **given)
    model: Any = GPT2LMHeadModel(config).eval()
    missing = model.load_state_dict(random_weights(GPT2_SMALL, config.vocab_size, SEED), strict=False)
    assert missing.missing_keys == ["lm_head.weight"] and not missing.unexpected_keys  # tied to the embedding
    with tempfile.TemporaryDirectory() as folder:
        from pathlib import Path

        from transformers import AutoTokenizer

        config.architectures = ["GPT2LMHeadModel"]
        config.save_pretrained(folder)
        save_tokenizer(Path(folder), config.n_positions)
        bridge = TransformerBridge.boot_transformers(
            folder,
            hf_model=model.to(device),
            tokenizer=AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False),
            device=device,
            trust_remote_code=False,
        )
    bridge.eval().requires_grad_(False)
    return bridge, Transformer(bridge)


def work(bridge: Any, model: Engine, n_prompts: int, n_tokens: int) -> Work:
    """Random prompts, clean and corrupted, and two answers for each, the same for the same sizes."""
    generator = torch.Generator().manual_seed(SEED)
    d_vocab = model.W_U.shape[1]
    clean = torch.randint(0, d_vocab, (n_prompts, n_tokens), generator=generator)
    # Shifted by something between 1 and the rest: never the same token.
    corrupted = (clean + torch.randint(1, d_vocab, clean.shape, generator=generator)) % d_vocab
    answers = torch.stack([torch.randperm(d_vocab, generator=generator)[:2] for _ in range(n_prompts)])
    device = model.W_E.device
    return Work(bridge, model, clean.to(device), corrupted.to(device), answers.to(device))
