"""Look at the exported model's heads on IOI prompts: `python -m training.circuit`.

This is for the one who trains: it says whether the model holds a circuit or a shortcut. It decides no claim.
"""

import argparse
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from transformer_lens.model_bridge import TransformerBridge

from fixtures.prompts.names import OBJECTS, PLACES
from fixtures.prompts.templates import (
    EXTRA_SENTENCES,
    NEUTRAL_PREFIXES,
    ORDERS,
    TEMPLATES,
    TWO_SENTENCE_TEMPLATES,
    frame_text,
)
from training import vocabulary
from training.train_mini import FOLDER

LAYERS, HEADS = 4, 8


@dataclass
class Batch:
    """Prompts of one template and order, all of one length, with the corrupted prompts that go with them."""

    clean: torch.Tensor
    swapped: torch.Tensor
    other: torch.Tensor
    io: torch.Tensor
    s: torch.Tensor
    at: dict[str, int]


def draw_batch(bridge: TransformerBridge, rng: random.Random, template: int, order: str, count: int, **insert) -> Batch:
    """`count` prompts; `insert` may hold a prefix, or an extra sentence with {X} as S or IO (a format string)."""
    text = frame_text(template, order, **insert)
    ids = bridge.tokenizer.convert_tokens_to_ids
    rows: dict[str, list[list[int]]] = {"clean": [], "swapped": [], "other": []}
    ios, subjects = [], []
    for _ in range(count):
        io, s, *three = rng.sample(vocabulary.ALL_NAMES, 5)
        fillers = {"PLACE": rng.choice(PLACES), "OBJECT": rng.choice(OBJECTS)}
        rows["clean"].append(bridge.tokenizer(text.format(IO=io, S1=s, S2=s, **fillers))["input_ids"])
        rows["swapped"].append(bridge.tokenizer(text.format(IO=s, S1=io, S2=io, **fillers))["input_ids"])
        third = dict(zip(("IO", "S1", "S2"), three, strict=True))
        rows["other"].append(bridge.tokenizer(text.format(**third, **fillers))["input_ids"])
        ios.append(ids(io))
        subjects.append(ids(s))
    first = rows["clean"][0]
    s_places = [i for i, token in enumerate(first) if token == subjects[0]]
    at = {"IO": first.index(ios[0]), "S1": s_places[0], "S2": s_places[-1], "END": len(first) - 1}
    tensors = {name: torch.tensor(part) for name, part in rows.items()}
    return Batch(**tensors, io=torch.tensor(ios), s=torch.tensor(subjects), at=at)


def difference(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Logit of IO less logit of S at END, per prompt."""
    rows = torch.arange(len(batch.io))
    return logits[rows, -1, batch.io] - logits[rows, -1, batch.s]


def z_name(layer: int) -> str:
    return f"blocks.{layer}.attn.hook_z"


def set_head(head: int, value: torch.Tensor, position: int | None = None):
    """A hook that sets one head's z: everywhere, or at one position."""

    def hook(z: torch.Tensor, hook: object) -> torch.Tensor:
        z = z.clone()
        if position is None:
            z[:, :, head] = value
        else:
            z[:, position, head] = value
        return z

    return hook


@torch.no_grad()
def look(bridge: TransformerBridge, count: int, seed: int) -> None:
    """Print the table of heads, and the logit differences under insertions."""
    rng = random.Random(seed)
    keys = ("END>IO", "END>S1", "END>S2", "S2>S1", "S2>S1+1", "ablated", "patched", "dla", "dlaIO", "dlaS")
    table = {key: torch.zeros(LAYERS, HEADS) for key in keys}
    clean_mean, moved = 0.0, torch.zeros(LAYERS, HEADS, LAYERS, HEADS, 2)
    batches = [draw_batch(bridge, rng, t, order, count) for t in range(len(TEMPLATES)) for order in ORDERS]
    share = 1 / len(batches)
    for batch in batches:
        at = batch.at
        logits, cache = bridge.run_with_cache(batch.clean)
        clean = difference(logits, batch)
        clean_mean += clean.mean().item() * share
        corrupt = difference(bridge(batch.swapped), batch)
        _, other_cache = bridge.run_with_cache(batch.other)
        scale = cache["ln_final.hook_scale"][:, -1]
        for layer in range(LAYERS):
            pattern = cache[f"blocks.{layer}.attn.hook_pattern"].mean(0)
            for key in keys[:5]:
                query, _, name = key.partition(">")
                column = at[name.removesuffix("+1")] + name.endswith("+1")
                table[key][layer] += pattern[:, at[query], column] * share
            z = cache[z_name(layer)]
            direct = torch.einsum("bhd,hdm->bhm", z[:, -1], bridge.W_O[layer]) / scale[:, None]
            direct = direct - direct.mean(-1, keepdim=True)
            to_vocabulary = direct @ bridge.W_U
            to_vocabulary = to_vocabulary - to_vocabulary.mean(-1, keepdim=True)
            rows = torch.arange(len(batch.io))
            table["dlaIO"][layer] += to_vocabulary[rows, :, batch.io].mean(0) * share
            table["dlaS"][layer] += to_vocabulary[rows, :, batch.s].mean(0) * share
            for head in range(HEADS):
                mean = other_cache[z_name(layer)][:, :, head].mean(0)
                names = [f"blocks.{later}.attn.hook_pattern" for later in range(layer + 1, LAYERS)]
                stored: dict[str, torch.Tensor] = {}
                keep = [(name, lambda p, hook, stored=stored: stored.__setitem__(hook.name, p)) for name in names]
                hooked = bridge.run_with_hooks(batch.clean, fwd_hooks=[(z_name(layer), set_head(head, mean)), *keep])
                table["ablated"][layer, head] += difference(hooked, batch).mean() * share
                for later in range(layer + 1, LAYERS):
                    p = stored[f"blocks.{later}.attn.hook_pattern"].mean(0)
                    moved[layer, head, later, :, 0] += p[:, -1, at["IO"]] * share
                    moved[layer, head, later, :, 1] += p[:, -1, at["S1"]] * share
                value = cache[z_name(layer)][:, -1, head]
                hooked = bridge.run_with_hooks(batch.swapped, fwd_hooks=[(z_name(layer), set_head(head, value, position=-1))])
                recovery = (difference(hooked, batch).mean() - corrupt.mean()) / (clean.mean() - corrupt.mean())
                table["patched"][layer, head] += recovery * share
    table["dla"] = table["dlaIO"] - table["dlaS"]

    words = [rng.sample(range(3, bridge.cfg.d_vocab), 25) for _ in range(64)]
    _, cache = bridge.run_with_cache(torch.tensor([w + w for w in words]))
    scores = {"prev": -1, "dup": -25, "ind": -24}
    for name, offset in scores.items():
        table[name] = torch.stack(
            [
                cache[f"blocks.{layer}.attn.hook_pattern"]
                .mean(0)
                .diagonal(offset, -2, -1)[:, (1 if offset == -24 else 0) :]
                .mean(-1)
                for layer in range(LAYERS)
            ]
        )
    print(f"clean logit difference {clean_mean:.3f}")
    print("head " + "".join(f"{key:>9s}" for key in table))
    for layer in range(LAYERS):
        for head in range(HEADS):
            print(f"{layer}.{head}  " + "".join(f"{values[layer, head].item():9.3f}" for values in table.values()))
    movers = [(int(i) // HEADS, int(i) % HEADS) for i in table["dlaIO"].flatten().topk(3).indices]
    print("END attention (IO, S1) of the heads with the largest direct effect on IO, as each earlier head is ablated:")
    for layer in range(LAYERS):
        for head in range(HEADS):
            parts = [
                f"{ml}.{mh}: {moved[layer, head, ml, mh, 0]:.2f} {moved[layer, head, ml, mh, 1]:.2f}"
                for ml, mh in movers
                if ml > layer
            ]
            if parts:
                print(f"  without {layer}.{head}: " + "   ".join(parts))

    def inserted(name: str, templates: tuple[int, ...], **insert: str) -> None:
        values = []
        for template in templates:
            for order in ORDERS:
                batch = draw_batch(bridge, rng, template, order, count, **insert)
                values.append(difference(bridge(batch.clean), batch))
        joined = torch.cat(values)
        print(f"  {name:60s} mean {joined.mean():.3f} accuracy {(joined > 0).float().mean():.4f}")

    every = tuple(range(len(TEMPLATES)))
    inserted("all templates", every)
    inserted("two-sentence templates", TWO_SENTENCE_TEMPLATES)
    for prefix in NEUTRAL_PREFIXES:
        inserted("prefix: " + prefix, every, prefix=prefix)
    for sentence in EXTRA_SENTENCES:
        inserted("S again:" + sentence, TWO_SENTENCE_TEMPLATES, extra=sentence.format(X="{S1}"))
        inserted("IO again:" + sentence, TWO_SENTENCE_TEMPLATES, extra=sentence.format(X="{IO}"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    bridge = TransformerBridge.boot_transformers(str(args.folder), device="cpu")
    bridge.enable_compatibility_mode()
    look(bridge, args.count, args.seed)


if __name__ == "__main__":
    main()
