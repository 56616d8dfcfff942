"""Measure the exported mini model on what it was never trained on: `python -m circuit_claims.training.accept`.

The main condition, "all unseen", has prompts whose names, pairs of names and fillers of the template were all held out
of every IOI sentence of the training text. The other conditions hold out one of these, or none. Numbers go to
training.json.
"""

import argparse
import json
import random
import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer, GPT2LMHeadModel, PreTrainedTokenizerBase

from circuit_claims.prompts import mini_corpus, mini_words
from circuit_claims.prompts.templates import ORDERS, TEMPLATES, frame_text
from circuit_claims.prompts.words import OBJECTS, PLACES
from circuit_claims.training.train_mini import FOLDER

CONDITIONS: tuple[str, ...] = ("all unseen", "names unseen", "pair unseen", "fillers unseen", "nothing unseen")
HELD_NAMES: tuple[str, ...] = tuple(sorted(mini_corpus.HELD_OUT_NAMES))


def draw_prompt(rng: random.Random, condition: str) -> tuple[str, str, str]:
    """One IOI prompt under a condition, with its IO and S."""
    names_held, pair_held, fillers_held = {
        "all unseen": (True, True, True),
        "names unseen": (True, False, False),
        "pair unseen": (False, True, False),
        "fillers unseen": (False, False, True),
        "nothing unseen": (False, False, False),
    }[condition]
    pool = HELD_NAMES if names_held else mini_corpus.ROLE_NAMES
    while True:
        io, subject = rng.sample(pool, 2)
        if mini_corpus.pair_held_out(io, subject) == pair_held:
            break
    while True:
        template, place, obj = rng.randrange(len(TEMPLATES)), rng.choice(PLACES), rng.choice(OBJECTS)
        no_fillers = "{PLACE}" not in TEMPLATES[template]
        if no_fillers or mini_corpus.combination_held_out(template, place, obj) == fillers_held:
            break
    text = frame_text(template, rng.choice(ORDERS))
    return text.format(S1=subject, S2=subject, IO=io, PLACE=place, OBJECT=obj), io, subject


class Measured:
    """The exported model and its tokenizer, with the one operation that every measure needs: logits after a text."""

    def __init__(self, folder: Path) -> None:
        self.model = GPT2LMHeadModel.from_pretrained(folder).eval()
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)

    def ids(self, words: list[str] | str) -> list[int]:
        """Token ids of a text, or of each of a list of single words."""
        if isinstance(words, str):
            return self.tokenizer(words)["input_ids"]
        ids = self.tokenizer.convert_tokens_to_ids(words)
        return [ids] if isinstance(ids, int) else ids

    @torch.no_grad()
    def last_logits(self, texts: list[str], bos: bool) -> torch.Tensor:
        """Logits after each text. Padding is on the right, behind the position that is read."""
        rows = [[mini_corpus.EOS_ID] * bos + self.ids(text) for text in texts]
        out = []
        for start in range(0, len(rows), 256):
            part = rows[start : start + 256]
            width = max(map(len, part))
            batch = torch.tensor([row + [mini_corpus.EOS_ID] * (width - len(row)) for row in part])
            logits = self.model(batch).logits
            out.append(logits[torch.arange(len(part)), torch.tensor([len(row) - 1 for row in part])])
        return torch.cat(out)


def ioi(measured: Measured, condition: str, bos: bool, count: int, seed: int) -> dict[str, float]:
    """Accuracy and logit difference over `count` prompts, and how probability is shared out."""
    rng = random.Random(seed)
    prompts = [draw_prompt(rng, condition) for _ in range(count)]
    logits = measured.last_logits([text for text, _, _ in prompts], bos)
    rows = torch.arange(count)
    io, subject = (torch.tensor(measured.ids([prompt[i] for prompt in prompts])) for i in (1, 2))
    difference = logits[rows, io] - logits[rows, subject]
    probability = logits.softmax(-1)
    return {
        "accuracy": (difference > 0).float().mean().item(),
        "logit_difference": difference.mean().item(),
        "logit_difference_sd": difference.std().item(),
        "p_io": probability[rows, io].mean().item(),
        "p_s": probability[rows, subject].mean().item(),
        "io_first": (logits.argmax(-1) == io).float().mean().item(),
    }


@torch.no_grad()
def repeated(measured: Measured, bos: bool, count: int, seed: int) -> dict[str, float]:
    """Loss on the second half of fresh repeated random sequences, less the repeat's first word."""
    rng = random.Random(seed)
    losses, hits = [], []
    for _ in range(count):
        sequence = measured.ids(rng.sample(mini_corpus.RANDOM_WORDS, rng.randint(10, 30)))
        ids = torch.tensor([mini_corpus.EOS_ID] * bos + sequence * 2)
        logits = measured.model(ids[None]).logits[0, :-1]
        tail = len(sequence) - 1
        losses.append(torch.nn.functional.cross_entropy(logits[-tail:], ids[-tail:], reduction="none"))
        hits.append(logits[-tail:].argmax(-1) == ids[-tail:])
    return {"loss": torch.cat(losses).mean().item(), "top1": torch.cat(hits).float().mean().item()}


def facts(measured: Measured, kind: str, held_out: bool, bos: bool) -> dict[str, float]:
    """Top-1 of the answer's first word over every fact of a kind, in its held-out phrasing or in the others."""
    table, forms = {
        "capital": (mini_words.CAPITALS, mini_words.CAPITAL_FORMS),
        "material": (mini_words.MATERIALS, mini_words.MATERIAL_FORMS),
    }[kind]
    pairs = [
        mini_corpus.fact_text(kind, subject, form)
        for subject in table
        for form in range(len(forms))
        if mini_corpus.fact_held_out(kind, subject, form) == held_out
    ]
    logits = measured.last_logits([prompt for prompt, _ in pairs], bos)
    answers = torch.tensor([measured.ids(answer)[0] for _, answer in pairs])
    return {"count": len(pairs), "top1": (logits.argmax(-1) == answers).float().mean().item()}


def years(measured: Measured, bos: bool) -> dict[str, float]:
    """Probability on later years less probability on the others, over every noun and start 02..97 (Hanna et al.)."""
    rng = random.Random(0)
    prompts = [
        (mini_corpus.years_text(span, rng.choice(mini_words.CENTURIES), start), start)
        for span in mini_words.SPANS
        for start in range(2, 98)
    ]
    probability = measured.last_logits([text for text, _ in prompts], bos).softmax(-1)
    two_digits = probability[:, measured.ids([f"{year:02d}" for year in range(100)])]
    later = torch.arange(100)[None] > torch.tensor([start for _, start in prompts])[:, None]
    mass, other = (two_digits * later).sum(-1), (two_digits * ~later).sum(-1)
    return {
        "difference": (mass - other).mean().item(),
        "p_later": mass.mean().item(),
        "p_not_later": other.mean().item(),
        "lowest_difference": (mass - other).min().item(),
    }


def measure(folder: Path, count: int = 2000, seed: int = 1) -> dict[str, dict[str, dict[str, float]]]:
    """Every measure, with the end-of-text token in front and without."""
    measured = Measured(folder)
    results: dict[str, dict[str, dict[str, float]]] = {}
    for bos in (False, True):
        table = {f"ioi, {condition}": ioi(measured, condition, bos, count, seed) for condition in CONDITIONS}
        table["repeated random words"] = repeated(measured, bos, 300, seed)
        for kind in ("capital", "material"):
            table[f"facts, {kind}, phrasing unseen"] = facts(measured, kind, True, bos)
            table[f"facts, {kind}, phrasing seen"] = facts(measured, kind, False, bos)
        table["later year"] = years(measured, bos)
        results["bos" if bos else "no bos"] = table
    return results


def failures(results: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """The acceptance bounds that the results do not meet, in words."""
    found = []
    for setting, table in results.items():
        unseen = table["ioi, all unseen"]
        checks = {
            "IOI accuracy at least 0.99": unseen["accuracy"] >= 0.99,
            "logit difference between 3 and 8": 3 <= unseen["logit_difference"] <= 8,
            "repeated words under 0.5 nats": table["repeated random words"]["loss"] < 0.5,
            "capitals at least 0.95": table["facts, capital, phrasing unseen"]["top1"] >= 0.95,
            "materials at least 0.95": table["facts, material, phrasing unseen"]["top1"] >= 0.95,
        }
        found += [f"{setting}: {name}" for name, met in checks.items() if not met]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = measure(args.folder, args.count, args.seed)
    for setting, table in results.items():
        print(f"== {setting}")
        for name, numbers in table.items():
            print(f"  {name:34s}" + "  ".join(f"{key} {value:.4g}" for key, value in numbers.items()))
    missed = failures(results)
    print("bounds missed: " + ("; ".join(missed) or "none"))
    path = args.folder / "training.json"
    record = json.loads(path.read_text())
    record["acceptance"] = {
        "command": "python -m circuit_claims.training.accept",
        "ioi_prompts": args.count,
        "seed": args.seed,
        "missed": missed,
        "results": {
            setting: {name: {key: round(value, 4) for key, value in numbers.items()} for name, numbers in table.items()}
            for setting, table in results.items()
        },
    }
    path.write_text(json.dumps(record, indent=2) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
