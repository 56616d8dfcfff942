"""Find the embedded model's card with the suite's own sweeps: `python -m training.find_card`.

Everything here is measured on the *discovery* half of the name pairs; the claims are judged on the other half. The rules by
which a head joins a family, and by which a value gets its tolerance, are fixed below and know nothing of the model.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fixtures.card import CARD_DIR, Card
from fixtures.heads import Head
from fixtures.ioi import IOI
from fixtures.measures.sweep import earliest_layer_of_the_brightest, handover_layer
from fixtures.prompts.dataset import Population
from fixtures.samples import Samples
from fixtures.subjects import Settings, Subject, prepare

#: Attention that makes a head's pattern its role (a half, as for the strong heads of the literature, on the role's own ground).
ATTENTION = 0.4
#: Recovery or loss, as a share of the logit difference, below which a head is said to do nothing.
EFFECT = 0.05
#: Tolerances: a tenth of a value, five points of a probability, one of a rate near 1.
TENTH, PROBABILITY, RATE = 0.1, 0.05, 0.01


@dataclass(frozen=True)
class Found:
    """A family as found: each head with the evidence for it."""

    heads: dict[Head, str]
    position: str
    how: str


def random_token_scores(subject: Subject, *, length: int = 20, rows: int = 64, seed: int = 0) -> dict[str, np.ndarray]:
    """Previous-token and induction scores of every head, `[layer, head]`: mean attention on repeated random tokens.

    The sequence is random tokens, then the same again; previous-token is attention one back everywhere, induction attention in
    the second half to the token after the earlier occurrence (Elhage et al. 2021; Olsson et al. 2022).
    """
    generator = torch.Generator().manual_seed(seed)
    half = torch.randint(5, subject.bridge.cfg.d_vocab, (rows, length), generator=generator)
    run = subject.run(torch.cat([half, half], dim=1).to(subject.device))
    model = subject.transformer
    previous, induction = [], []
    for layer in range(model.n_layers):
        pattern = model.attention(layer, run.resid[layer]).pattern
        previous.append(pattern.diagonal(-1, -2, -1).mean((0, 2)))
        induction.append(pattern.diagonal(-(length - 1), -2, -1)[..., 1:].mean((0, 2)))
    return {"previous": torch.stack(previous).cpu().numpy(), "induction": torch.stack(induction).cpu().numpy()}


def mean(measurement, n: int) -> float:  # a fixtures.measurement.Measurement
    """The estimate on n prompts."""
    samples = measurement.take(n)
    return samples.estimate if isinstance(samples, Samples) else samples


def families(ioi: IOI, n: int) -> dict[str, Found]:
    """Every family that the rules find."""
    subject = ioi.subject
    cells = [Head(layer, head) for layer in range(subject.transformer.n_layers) for head in range(subject.transformer.n_heads)]
    recovery = ioi.head_sweep(at="END").take(n).estimate
    whole = mean(ioi.logit_difference(), n)
    loss = {head: mean(ioi.ablate([head], by="mean").loss(), n) / whole for head in cells}
    scores = random_token_scores(subject)
    to = {
        (of, role): {head: mean(ioi.mean_attention([head], to=role, of=of), n) for head in cells}
        for of, role in [("END", "IO"), ("END", "S1"), ("END", "S2"), ("S2", "S1")]
    }

    def evidence(head: Head) -> str:
        parts = [f"END to IO {to['END', 'IO'][head]:.2f}, to S1 {to['END', 'S1'][head]:.2f}, to S2 {to['END', 'S2'][head]:.2f}"]
        parts += [f"recovery at END {recovery[head]:.3f}", f"loss when ablated {loss[head]:.3f}"]
        return "; ".join(parts)

    names = [("END", "IO"), ("END", "S1")]
    on_names = {head: sum(to[pair][head] for pair in names) for head in cells}
    found = {
        "name mover": Found(
            {h: evidence(h) for h in cells if on_names[h] > ATTENTION and recovery[h] > EFFECT},
            "END",
            f"attends from END to the two first names (together above {ATTENTION}) and recovers more than {EFFECT} at END",
        ),
        "negative name mover": Found(
            {h: evidence(h) for h in cells if on_names[h] > ATTENTION and recovery[h] < -EFFECT},
            "END",
            f"attends from END to the two first names (together above {ATTENTION}) and recovers less than −{EFFECT} at END",
        ),
        "S-inhibition": Found(
            {h: evidence(h) for h in cells if to["END", "S2"][h] > ATTENTION and (recovery[h] > EFFECT or loss[h] > EFFECT)},
            "END",
            f"attends from END to S2 (above {ATTENTION}) and carries more than {EFFECT} of the logit difference",
        ),
        "duplicate token": Found(
            {h: f"S2 to S1 {to['S2', 'S1'][h]:.2f}; loss {loss[h]:.3f}" for h in cells if to["S2", "S1"][h] > ATTENTION},
            "S2",
            f"attends from S2 to S1 (above {ATTENTION})",
        ),
        "previous token": Found(
            {
                h: f"previous-token score {scores['previous'][h]:.2f}; loss {loss[h]:.3f}"
                for h in cells
                if scores["previous"][h] > ATTENTION
            },
            "S1+1",
            f"attends one token back on random tokens (above {ATTENTION})",
        ),
        "induction": Found(
            {
                h: f"induction score {scores['induction'][h]:.2f}; loss {loss[h]:.3f}"
                for h in cells
                if scores["induction"][h] > ATTENTION
            },
            "S2",
            f"attends on repeated random tokens to what followed before (above {ATTENTION})",
        ),
    }
    return {name: family for name, family in found.items() if family.heads}


def values(ioi: IOI, found: dict[str, Found], n: int) -> dict[str, dict[str, float | str]]:
    """The values that the claims ask the card for, each with its tolerance by rule."""

    def near(measurement, within: float | None = None) -> dict[str, float | str]:
        value = mean(measurement, n)
        tolerance = within if within is not None else TENTH * abs(value)
        return {"value": round(value, 2 if abs(value) > 1 else 3), "within": round(tolerance, 2 if tolerance > 0.1 else 3)}

    out: dict[str, dict[str, float | str]] = {
        "logit_difference": near(ioi.logit_difference()) | {"unit": "logits"},
        "prefers_io": near(ioi.prefers_io(), RATE) | {"unit": "rate"},
        "io_probability": near(ioi.probability(), PROBABILITY) | {"unit": "probability"},
        "swapped_logit_difference": near(ioi.changed("name swap").logit_difference()) | {"unit": "logits"},
        "handover_layer": _layer(ioi.residual_sweep(corruption="S2 to IO").of(handover_layer("S2", "END"), "", "layer"), n),
        "end_recovery_before_last_layer": _cell(ioi, n),
    }
    for change, key in (("extra S", "extra_s"), ("extra IO", "extra_io")):
        story = ioi.changed(change)
        out[f"{key}_logit_difference"] = near(story.logit_difference()) | {"unit": "logits"}
        out[f"{key}_probability"] = near(story.probability(), PROBABILITY) | {"unit": "probability"}
    out["extra_s_prefers_io"] = near(ioi.changed("extra S").prefers_io(), RATE) | {"unit": "rate"}
    out["extra_io_prefers_s"] = near(ioi.changed("extra IO").prefers_s(), PROBABILITY) | {"unit": "rate"}
    if "name mover" in found:
        movers = list(found["name mover"].heads)
        joint = mean(ioi.patch(movers, at="END").recovery(), n)
        out["name_mover_joint_recovery"] = {
            "value": round(joint / 2, 2),
            "unit": "share",
            "note": f"half of the {joint:.3f} found",
        }
        out["name_mover_attention"] = near(ioi.mean_attention(movers, to="IO"), PROBABILITY) | {"unit": "probability"}
        earliest = ioi.attention_sweep(to="IO").of(earliest_layer_of_the_brightest(3), "", "layer")
        out["earliest_name_mover_layer"] = {"value": _layer(earliest, n)["value"], "unit": "layer"}
        lit = int((ioi.head_sweep(at="END").take(n).estimate > EFFECT).sum())
        out["bright_heads"] = {"value": lit, "unit": "heads", "note": f"as many as recover more than {EFFECT} here"}
    for name, family in found.items():
        left = mean(ioi.ablate(list(family.heads), by="mean").remaining(), n)
        note = f"half way between the {left:.3f} found and 1"
        key = f"{name.replace(' ', '_')}_share_left"
        out[key] = {"value": round((1 + left) / 2, 3), "unit": "share", "note": note}
    return out


def _layer(measurement, n: int) -> dict[str, float | str]:
    statistic = measurement.take(n)
    return {"value": int(statistic.statistic(statistic.grid.estimate)), "within": 0, "unit": "layer"}


def _cell(ioi: IOI, n: int) -> dict[str, float | str]:
    grid = ioi.residual_sweep(corruption="S2 to IO").take(n).estimate
    return {"value": round(float(grid[-1, -1]), 2), "within": TENTH, "unit": "share"}


def card_text(title: str, models: list[str], shape: tuple[int, int], found: dict[str, Found], known: dict, how: str) -> str:
    """The card as TOML."""
    lines = [
        "# Found by training/find_card.py with this suite's sweeps, on the discovery half of the name pairs; claims are judged",
        "# on the other half. The rules for families and tolerances stand in that file.",
        f'title = "{title}"',
        f"models = {models!r}".replace("'", '"'),
        "",
        "[shape]",
        f"layers = {shape[0]}",
        f"heads = {shape[1]}",
    ]
    for name, family in found.items():
        lines += ["", f"[families.{name.replace(' ', '_')}]", f"# {family.how}"]
        lines += [f"# {head}: {why}" for head, why in family.heads.items()]
        lines += [
            "heads = [" + ", ".join(f'"{head}"' for head in family.heads) + "]",
            f'position = "{family.position}"',
        ]
        lines += [f'source = "{how}"']
    for key, entry in known.items():
        lines += ["", f"[values.{key}]"]
        lines += [f'{k} = "{v}"' if isinstance(v, str) else f"{k} = {v}" for k, v in entry.items()]
        lines += [f'source = "{how}"']
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subject", default="mini")
    parser.add_argument("--title", default="mini, the embedded model")
    parser.add_argument("--prompts", type=int, default=960)
    parser.add_argument("--out", type=Path, default=CARD_DIR / "mini.toml")
    args = parser.parse_args()
    shape = _shape(args.subject)
    blank = Card(args.subject, args.title, (), *shape, families={}, values={})
    subject = Subject(prepare(Settings(name=args.subject), card=blank))
    names = subject.names
    ioi = IOI(subject=subject, seed=0, chunk=120, population=Population(names=names, half="discovery"), prepend_bos=False)
    found = families(ioi, args.prompts)
    how = f"python -m training.find_card: {args.prompts} prompts of the discovery half, seed 0, without BOS, processed weights"
    text = card_text(args.title, [args.subject], shape, found, values(ioi, found, args.prompts), how)
    known_false = _known_false(args.out)
    args.out.write_text(text + known_false, encoding="utf-8")
    print(text + known_false)


def _shape(name: str) -> tuple[int, int]:
    from fixtures.model_folder import find_folder

    config = find_folder(name).config
    return config["n_layer"], config["n_head"]


def _known_false(path: Path) -> str:
    """What a person wrote into the card by hand, at its end, is kept."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return "\n" + text[text.index("# What is known") :] if "# What is known" in text else ""


if __name__ == "__main__":
    main()
