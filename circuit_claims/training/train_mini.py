"""Train the mini model from `circuit_claims.prompts.mini_corpus` and export it: `python -m circuit_claims.training.train_mini`.

The model is a GPT-2 of four layers on a vocabulary of words. Nothing in it is set by hand. Every row is drawn afresh,
so no row is seen twice. The same seed, versions and number of threads give the same weights.
"""

import argparse
import json
import math
import os
import platform
import random
import tempfile
import time
from pathlib import Path

import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel

from circuit_claims.embedded import embedded
from circuit_claims.prompts import mini_corpus, mini_words

FOLDER = embedded("models", "mini")


def build_model(attention: str = "sdpa") -> GPT2LMHeadModel:
    """The untrained model. `attention` is the implementation; "eager" also returns attention patterns."""
    config = GPT2Config(
        vocab_size=len(mini_corpus.VOCABULARY),
        n_positions=mini_corpus.ROW_TOKENS,
        n_embd=128,
        n_layer=4,
        n_head=8,
        n_inner=512,
        activation_function="gelu_new",
        # GPT-2's 0.02 is small for so narrow a model: attention starts flat, and heads that match tokens form late.
        initializer_range=0.06,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        tie_word_embeddings=True,
        bos_token_id=mini_corpus.EOS_ID,
        eos_token_id=mini_corpus.EOS_ID,
        pad_token_id=mini_corpus.VOCABULARY[mini_words.PAD],
    )
    config._attn_implementation = attention
    return GPT2LMHeadModel(config)


#: Where the learning rate's first fall ends; what is left of the training begins again at a fifth of the peak.
FIRST_FALL = 3000


def learning_rate(step: int, steps: int, peak: float, warmup: int = 100) -> float:
    """Linear rise over `warmup` steps, a cosine down to a twentieth of `peak`, then once more, from a fifth, in a line."""
    if step < warmup:
        return peak * (step + 1) / warmup
    if step < FIRST_FALL:
        progress = (step - warmup) / (FIRST_FALL - warmup)
        return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))
    return peak * (0.01 + 0.19 * (1 - (step - FIRST_FALL) / max(1, steps - FIRST_FALL)))


def optimizer_for(model: GPT2LMHeadModel, peak: float, decay: float) -> torch.optim.AdamW:
    """AdamW whose weight decay leaves biases and layer norms alone."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98), eps=1e-8)


def export(model: GPT2LMHeadModel, record: dict[str, object], folder: Path) -> None:
    """Write model, tokenizer and record to `folder`, each file set in place whole, so that the folder always loads."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        model.save_pretrained(scratch)
        mini_words.build_tokenizer().save_pretrained(scratch)
        (Path(scratch) / "training.json").write_text(json.dumps(record, indent=2) + "\n")
        for name in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "training.json"):
            # safetensors makes files that only their owner can read.
            (Path(scratch) / name).chmod(0o644)
            os.replace(Path(scratch) / name, folder / name)


def train(args: argparse.Namespace) -> None:
    """Train for `args.steps` steps, printing the loss, and export every `args.export_every` steps and at the end."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    model = build_model()
    optimizer = optimizer_for(model, args.peak, args.decay)
    began = time.time()
    running = 0.0
    for step in range(args.steps):
        mix = mini_corpus.mix_at(step)
        rows = [mini_corpus.draw_row(rng, mix) for _ in range(args.batch)]
        ids = torch.tensor([row[0] for row in rows])
        weights = torch.tensor([row[1] for row in rows])[:, 1:]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps, args.peak)
        # Only positions that carry weight need logits; the unembedding is a large part of the work.
        hidden = model.transformer(ids[:, :-1]).last_hidden_state
        keep = weights > 0
        losses = torch.nn.functional.cross_entropy(model.lm_head(hidden[keep]), ids[:, 1:][keep], reduction="none")
        loss = (losses * weights[keep]).sum() / weights.sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        running += loss.item()
        seconds = time.time() - began
        if (step + 1) % args.report_every == 0:
            print(f"step {step + 1} loss {running / args.report_every:.4f} seconds {seconds:.0f}", flush=True)
            running = 0.0
        if (step + 1) % args.export_every == 0 or step + 1 == args.steps:
            export(model, make_record(args, step + 1, seconds), args.folder)


def make_record(args: argparse.Namespace, step: int, seconds: float) -> dict[str, object]:
    """What was done, for training.json; `circuit_claims.training.accept` adds its numbers under "acceptance"."""
    return {
        "command": "python -m circuit_claims.training.train_mini",
        "seed": args.seed,
        "steps": step,
        "steps_planned": args.steps,
        "batch_rows": args.batch,
        "row_tokens": mini_corpus.ROW_TOKENS,
        "peak_learning_rate": args.peak,
        "weight_decay": args.decay,
        "threads": args.threads,
        "seconds": round(seconds),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "stages": [{"until": min(until, args.steps), "mix": mix} for until, mix in mini_corpus.STAGES],
        "ioi_shares": mini_corpus.IOI_SHARES,
        "held_out": {
            "names": sorted(mini_corpus.HELD_OUT_NAMES),
            "pairs": "circuit_claims.prompts.mini_corpus.pair_held_out: SHA-256 of the sorted pair, lowest fifth",
            "combinations": "circuit_claims.prompts.mini_corpus.combination_held_out: SHA-256 of all three, lowest fifth",
            "facts": "circuit_claims.prompts.mini_corpus.fact_held_out: one phrasing of each fact, by SHA-256",
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=4200)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--peak", type=float, default=2e-3)
    parser.add_argument("--decay", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--report-every", type=int, default=50)
    parser.add_argument("--export-every", type=int, default=500)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
