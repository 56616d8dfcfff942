"""Knock-outs and kept circuits of pairs, against plain hooks, and what must hold of any model."""

import numpy as np
import pytest
import torch

from circuit_claims.heads import Head
from circuit_claims.untested import Untested
from tests.tasks.contrast.capitals import FORMS, capitals, task
from tests.tasks.contrast.plain import Plain

FEW = 5
HEADS = (Head(0, 6), Head(2, 1))


def reference(given, size: int = 16) -> list:
    """The corrupted prompts that a mean goes over, where all pairs lie alike and each is a cluster."""
    return [given.population.prompt(number).changed("corrupted") for number in given.population.order(given.seed + 1)[:size]]


def outputs(plain: Plain, prompt, names) -> dict[str, torch.Tensor]:
    return plain.seen(prompt, names)


def replacement(given, plain: Plain, prompt, by: str, names) -> dict[str, torch.Tensor]:
    """What stands in the place of heads' and MLPs' outputs, at every position of a prompt."""
    if by == "zero":
        return {name: torch.zeros_like(value) for name, value in outputs(plain, prompt, names).items()}
    if by == "resample":
        return outputs(plain, prompt.changed("corrupted"), names)
    found = [outputs(plain, other, names) for other in reference(given)]
    return {name: torch.stack([each[name] for each in found]).mean(0) for name in names}


def plain_knock_out(given, prompt, by: str, removed=(), *, kept=None, mlps=()) -> float:
    """The difference with nodes replaced, or all but those that are kept; and with MLPs replaced."""
    plain = Plain(given.subject)
    length = plain.tokens(prompt.text).shape[1]

    def places(nodes) -> set:
        return {
            (head.layer, position, head.head)
            for head, role in nodes
            for position in (range(length) if role is None else [plain.place(prompt, role)])
        }

    gone = places(removed)
    if kept is not None:
        gone |= places([(head, None) for head in given.all_heads]) - places(kept)
    z, out = ([f"blocks.{layer}.{name}" for layer in range(plain.layers)] for name in ("attn.hook_z", "hook_mlp_out"))
    values = replacement(given, plain, prompt, by, [*z, *out])

    def hook_for(layer: int):
        def hook(activation, hook):
            activation = activation.clone()
            for at, position, head in gone:
                if at == layer:
                    activation[0, position, head] = values[z[layer]][position, head]
            return activation

        return z[layer], hook

    def mlp(layer: int):
        return out[layer], lambda activation, hook: values[out[layer]][None].to(activation.dtype)

    return plain.difference(prompt, [*(hook_for(layer) for layer in range(plain.layers)), *(mlp(layer) for layer in mlps)])


def exactly(values):
    return pytest.approx(np.array(values), abs=1e-6)


@pytest.mark.parametrize("by", ["mean", "zero", "resample"])
@pytest.mark.parametrize("at", ["END", "country", None])
def test_a_knocked_out_head_is_the_plain_one(known, by, at):
    expected = [plain_knock_out(known, prompt, by, [(head, at) for head in HEADS]) for prompt in known.prompts(FEW)]
    assert known.ablate(HEADS, by=by, at=at).value().take(FEW).values == exactly(expected)


@pytest.mark.parametrize("by", ["mean", "zero", "resample"])
def test_a_knocked_out_mlp_is_the_plain_one(known, by):
    expected = [plain_knock_out(known, prompt, by, mlps=[1]) for prompt in known.prompts(FEW)]
    assert known.ablate_mlps([1], by=by).value().take(FEW).values == exactly(expected)


@pytest.mark.parametrize("by", ["mean", "zero", "resample"])
def test_a_kept_circuit_is_the_plain_one(known, by):
    kept = [(Head(0, 6), "country"), (Head(2, 1), "END"), (Head(3, 4), None)]
    circuit = known.circuit(kept, by=by)
    values = circuit.value().take(FEW).values
    assert values == exactly([plain_knock_out(known, prompt, by, kept=kept) for prompt in known.prompts(FEW)])
    whole = known.logit_difference().take(FEW)
    assert circuit.faithfulness().take(FEW).estimate == pytest.approx(values.mean() / whole.estimate, abs=1e-6)
    removed = kept[:1]
    without = [
        (plain_knock_out(known, prompt, by, removed), plain_knock_out(known, prompt, by, kept=kept[1:]))
        for prompt in known.prompts(FEW)
    ]
    gaps = [model - rest for model, rest in without]
    assert circuit.incompleteness(removed).take(FEW).values == exactly(gaps)
    added = np.mean(values) - np.mean([rest for _, rest in without])
    assert circuit.contribution(kept[0], []).take(FEW).estimate == pytest.approx(added / whole.estimate, abs=2e-6)


@pytest.mark.parametrize("at", ["END", "word"])
@pytest.mark.parametrize("by", ["zero", "resample"])
def test_pairs_of_different_length_are_knocked_out_at_their_roles(unlike, by, at):
    plain, expected = Plain(unlike.subject), []
    for prompt in unlike.prompts(FEW):
        names = [f"blocks.{head.layer}.attn.hook_z" for head in HEADS]
        other = prompt.changed("corrupted") if by == "resample" else prompt
        values = plain.seen(other, names)
        if by == "zero":
            values = {name: torch.zeros_like(value) for name, value in values.items()}
        hooks = [
            plain.head_hook("output", head, values[name], [plain.place(prompt, at)], [plain.place(other, at)])
            for head, name in zip(HEADS, names, strict=True)
        ]
        expected.append(plain.difference(prompt, hooks))
    assert unlike.ablate(HEADS, by=by, at=at).value().take(FEW).values == exactly(expected)


@pytest.mark.parametrize("by", ["mean", "zero", "resample"])
def test_the_whole_model_is_a_faithful_circuit(known, by):
    everything = [(head, None) for head in known.all_heads]
    circuit = known.circuit(everything, by=by)
    assert circuit.faithfulness().take(FEW).estimate == pytest.approx(1, abs=1e-6)
    assert circuit.gap().take(FEW).values == exactly([0] * FEW)
    assert circuit.incompleteness(everything[:3]).take(FEW).values == exactly([0] * FEW)
    assert np.isfinite(circuit.greedy_incompleteness().take(FEW).estimate)


def test_resampling_every_head_and_mlp_gives_the_corrupted_prompt_with_the_clean_words(known):
    """What is left of the clean text is its embeddings: the twin replaces all else by hand."""
    heads = [(head, None) for head in known.all_heads]
    everything = known.without(heads, by="resample").value().take(FEW).values
    assert everything == exactly([plain_knock_out(known, prompt, "resample", heads) for prompt in known.prompts(FEW)])


def test_a_mean_counts_every_cluster_once(exact_mini):
    """Of forty-six pairs, one cluster has thirty: it has its share of the sixteen, and no more."""
    pairs = [pair | {"cluster": "many" if i < 30 else str(i)} for i, pair in enumerate(capitals())]
    given = task(exact_mini, pairs, chunk=50)
    batches = given.batches(given.prompts(1))
    from circuit_claims.tasks.task import layouts_of

    (layout,) = layouts_of(batches[0])
    form = given.population.of_the_form_of(given.prompts(1)[0])
    tokens = given.reference_tokens(form, given.prompts(1)[0], layout, 16)
    cluster_of = {tuple(Plain(exact_mini).tokens(p.corrupted_text)[0].tolist()): p.cluster for p in given.prompts(46)}
    assert len(tokens) == 16 and len({cluster_of[tuple(row)] for row in tokens.tolist()}) == 16


def test_a_mean_over_too_few_prompts_of_that_form_is_refused(unlike, exact_mini):
    with pytest.raises(Untested, match=r"^[0-3] of the corrupted prompts have as many tokens as .* or ablate by='zero'"):
        unlike.ablate(HEADS).value().take(9)
    # Where the corrupted prompts are of another phrasing, none lies as the clean ones do.
    with pytest.raises(Untested, match=r"^0 of the corrupted prompts have as many tokens as "):
        task(exact_mini, capitals(*FORMS)).ablate(HEADS).value().take(FEW)
