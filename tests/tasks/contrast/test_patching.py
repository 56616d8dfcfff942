"""Patching pairs, of one length and of different lengths, against plain hooks."""

from typing import Any

import numpy as np
import pytest
import torch

from circuit_claims.heads import Head
from circuit_claims.untested import Untested
from tests.support.plain_twins import plain_path as four_passes
from tests.tasks.contrast.capitals import FORMS, capitals, task
from tests.tasks.contrast.plain import HOOKS, Plain

FEW = 6
HEADS = (Head(1, 0), Head(1, 3), Head(3, 2))


def changed(given) -> list:
    """The first pairs with their corrupted prompts."""
    return [(prompt, prompt.changed("corrupted")) for prompt in given.prompts(FEW)]


def exactly(values):
    return pytest.approx(np.array(values), abs=1e-6)


@pytest.mark.parametrize("part", [part for part in HOOKS if part != "pattern"])
@pytest.mark.parametrize(
    ("which", "at"), [("known", "END"), ("known", "country"), ("known", None), ("unlike", "END"), ("unlike", "word")]
)
def test_a_patched_part_is_the_plain_one(request, which, at, part):
    given = request.getfixturevalue(which)
    plain = Plain(given.subject)
    expected = [plain.patched(bad, good, HEADS, part, at, good) for good, bad in changed(given)]
    assert given.patch(HEADS, part=part, at=at).value().take(FEW).values == exactly(expected)


@pytest.mark.parametrize("at", ["END", "country", None])
def test_a_patched_pattern_is_the_plain_one(known, at):
    plain = Plain(known.subject)
    expected = [plain.patched(bad, good, HEADS, "pattern", at, good) for good, bad in changed(known)]
    assert known.patch(HEADS, part="pattern", at=at).value().take(FEW).values == exactly(expected)


@pytest.mark.parametrize(("which", "at"), [("known", "country"), ("unlike", "END"), ("unlike", "word")])
def test_noise_is_the_plain_one(request, which, at):
    given = request.getfixturevalue(which)
    plain = Plain(given.subject)
    expected = [plain.patched(good, bad, HEADS, "output", at, good) for good, bad in changed(given)]
    noised = given.noise(HEADS, at=at)
    assert noised.value().take(FEW).values == exactly(expected)
    clean = np.array([plain.difference(good) for good, _ in changed(given)])
    assert noised.change().take(FEW).values == pytest.approx(clean - expected, abs=5e-6)
    swept = given.noise_sweep(at=at).take(FEW).values
    one = [plain.patched(good, bad, HEADS[:1], "output", at, good) for good, bad in changed(given)]
    assert swept[:, 1, 0] == pytest.approx(clean - one, abs=5e-6)


@pytest.mark.parametrize("site", ["resid_pre", "attn_out", "mlp_out"])
@pytest.mark.parametrize("which", ["known", "unlike"])
def test_a_sweep_over_places_is_the_plain_one(request, which, site):
    given = request.getfixturevalue(which)
    plain, layer = Plain(given.subject), 1
    mark = given.population.table.roles[0]
    grid = given.residual_sweep(site=site).take(FEW)
    assert list(grid.column_labels) == [mark, "END"]
    for column, role in enumerate((mark, "END")):
        for row, (good, bad) in enumerate(changed(given)):
            values = next(iter(plain.seen(good, [plain.block_hook(site, layer, torch.empty(0), 0, 0)[0]]).values()))
            hook = plain.block_hook(site, layer, values, plain.place(bad, role), plain.place(good, role))
            won = plain.difference(bad, [hook], of=good) - plain.difference(bad, of=good)
            assert grid.values[row, layer, column] == pytest.approx(won, abs=2e-6)
            cost = plain.difference(good) - plain.difference(bad, of=good)
            assert grid.weights[row] == pytest.approx(cost, abs=5e-6)


def test_a_sweep_over_all_positions_has_the_marked_ones_among_them(known):
    everywhere, marked = known.position_sweep().take(FEW), known.residual_sweep().take(FEW)
    plain, prompt = Plain(known.subject), known.prompts(1)[0]
    for column, role in enumerate(("country", "END")):
        assert everywhere.values[:, :, plain.place(prompt, role)] == exactly(marked.values[:, :, column])
    assert list(everywhere.column_labels) == ["0 The", "1 capital", "2 of", "3", "4 is"]


def test_the_country_restores_everything_before_the_first_layer(known):
    """The two texts differ in the country alone: whatever else is patched there changes nothing."""
    first = known.position_sweep().take(FEW).estimate[0]
    assert first == pytest.approx([0, 0, 0, 1, 0], abs=1e-6)


def test_a_recovery_is_the_ratio_of_means(known):
    plain = Plain(known.subject)
    patched = [plain.patched(bad, good, HEADS, "output", "country", good) for good, bad in changed(known)]
    clean = np.mean([plain.difference(good) for good, _ in changed(known)])
    corrupted = np.mean([plain.difference(bad, of=good) for good, bad in changed(known)])
    found = known.patch(HEADS, at="country").recovery().take(FEW).estimate
    assert found == pytest.approx((np.mean(patched) - corrupted) / (clean - corrupted), abs=2e-6)
    swept = known.head_sweep(at="country").take(FEW).estimate[1, 3]
    assert swept == pytest.approx(known.patch([Head(1, 3)], at="country").recovery().take(FEW).estimate, abs=1e-6)


@pytest.mark.parametrize(("to", "at"), [(None, "END"), ((Head(3, 2), Head(2, 1)), "END"), ((Head(3, 2),), "country")])
def test_a_patched_path_is_the_four_passes(known, to, at):
    """The twin is the one of IOI's paths, which takes any prompt whose roles are single tokens."""

    class OneToken:
        """A pair as a prompt with one token at each role, for that twin."""

        def __init__(self, prompt):
            self.prompt, self.text, self.answers = prompt, prompt.text, prompt.answers
            self.spans = tuple(prompt.marks)

        def changed(self, change):
            return OneToken(self.prompt.changed(change))

    prompts: list[Any] = [OneToken(good) for good, _ in changed(known)]
    expected = [four_passes(known, prompt, HEADS[:2], to=to, at=at, corruption="corrupted")[1] for prompt in prompts]
    assert known.path(HEADS[:2], to=to or "logits", into="q", at=at).value().take(FEW).values == exactly(expected)


# Pairs of different length


ALL_POSITIONS = {
    "patching the outputs of heads at all positions": lambda it: it.patch(HEADS, at=None).value(),
    "patching the pattern of heads at END": lambda it: it.patch(HEADS, part="pattern").value(),
    "path patching": lambda it: it.path(HEADS).value(),
    "path patching ": lambda it: it.path_sweep(),
    "path patching  ": lambda it: it.taken_over(HEADS[:1], from_heads=[]),
    "attribution patching": lambda it: it.attribution_sweep(),
    "resample ablation at all positions": lambda it: it.ablate(HEADS, by="resample").value(),
    "resample ablation at all positions ": lambda it: it.circuit([(HEADS[0], "END")], by="resample").value(),
    "resample ablation at all positions  ": lambda it: it.ablate_mlps([0], by="resample").value(),
}


@pytest.mark.parametrize("what", ALL_POSITIONS)
def test_what_needs_all_positions_says_that_pairs_differ_in_length(unlike, what):
    with pytest.raises(Untested) as caught:
        ALL_POSITIONS[what](unlike).take(9)
    assert "\n" not in str(caught.value)
    said = str(caught.value)
    assert said.startswith(
        f"{what.strip().replace('outputs', 'output')} needs pairs whose texts have their tokens in the same places, and "
    )
    assert said.endswith(": pairs of different length patch at END and at marked positions only")
    plain = Plain(unlike.subject)
    # The first chunk of five is what is measured first, and what is counted.
    apart = [
        plain.tokens(prompt.text).shape != plain.tokens(prompt.corrupted_text).shape
        or plain.place(prompt, "word") != plain.place(prompt.changed("corrupted"), "word")
        for prompt in unlike.prompts(5)
    ]
    assert f"and {sum(apart)} of the first 5 pairs do not" in said and 0 < sum(apart) < 5


def test_a_sweep_over_all_positions_of_prompts_of_different_length_is_refused(unlike):
    with pytest.raises(Untested, match="a sweep over all positions needs prompts of one length, and these have"):
        unlike.position_sweep()


def test_a_mark_that_stands_elsewhere_is_found_in_each_text(exact_mini):
    """Of the same number of tokens, with the country at another position."""
    pairs = [
        pair | {"corrupted": pair["corrupted"].replace("The capital of ", "").replace(" is", " is the capital of")}
        for pair in capitals()
    ]
    given = task(exact_mini, pairs)
    plain = Plain(exact_mini)
    assert (
        plain.place(given.prompts(1)[0], "country") == 3
        and plain.place(given.prompts(1)[0].changed("corrupted"), "country") == 0
    )
    expected = [plain.patched(bad, good, HEADS, "output", "country", good) for good, bad in changed(given)]
    assert given.patch(HEADS, at="country").value().take(FEW).values == exactly(expected)
    with pytest.raises(Untested, match=r"path patching needs .* \(row \d+: 'country' is elsewhere\)"):
        given.path(HEADS, to=[Head(3, 0)], at="country").value().take(FEW)
    assert np.isfinite(given.path(HEADS, at="END").value().take(FEW).values).all()


def test_the_roles_of_a_mark_are_its_first_and_its_last_token(unlike):
    plain = Plain(unlike.subject)
    for batch in unlike.batches(unlike.prompts(9)):
        for row, prompt in enumerate(batch.prompts):
            begin = plain.tokens(prompt.text[: prompt.marks[0].begin].rstrip()).shape[1]
            assert int(batch.at("word")[row]) == int(batch.at("last word token")[row]) == plain.place(prompt, "word")
            assert int(batch.at("first word token")[row]) == begin
    with pytest.raises(KeyError, match="unknown role 'noun': the roles are "):
        unlike.patch(HEADS, at="noun").value().take(FEW)


def test_another_phrasing_patches_at_its_own_positions(exact_mini):
    given = task(exact_mini, capitals(FORMS[0], FORMS[1]))
    plain = Plain(exact_mini)
    for at in ("country", "END"):
        expected = [plain.patched(bad, good, HEADS, "output", at, good) for good, bad in changed(given)]
        assert given.patch(HEADS, at=at).value().take(FEW).values == exactly(expected)
