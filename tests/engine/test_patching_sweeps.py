"""Sweeps over parts of heads and over layers, and published pairs, against plain hooks: one cell and one prompt at a time."""

from dataclasses import replace

import numpy as np
import pytest

from circuit_claims.cards.schema import PublishedTable
from circuit_claims.heads import Head
from circuit_claims.measure.agreement import (
    correlation,
    halves,
    named_cells,
    pearson,
    published_correlation,
    published_difference,
    two_sweeps,
)
from circuit_claims.measure.grid_statistics import brightest, least_lead
from circuit_claims.measure.samples import Grid
from circuit_claims.prompts.roles import SWEPT_ROLES
from circuit_claims.subjects.subject import Settings, Subject, prepare
from circuit_claims.tasks.ioi.task import IOI
from circuit_claims.tasks.operations.head_parts import BLOCKS, PARTS, SITES, Part
from circuit_claims.untested import Untested
from circuit_claims.verdicts.budget import Budget
from circuit_claims.verdicts.expect import Expect, Refuted
from tests.conftest import HEADS, LAYERS
from tests.engine.test_engine import HOOKS
from tests.support.plain_twins import all_heads, alone, plain_cache, plain_difference, put, task
from tests.support.tiny_models import save_tiny_card, save_tiny_gpt2
from tests.verdicts.test_expect import Paper

N = 2
#: The clean pass, and the two differences, of each prompt: made once.
MADE: dict[tuple, tuple] = {}
#: Two pairs, each prompt the corruption of the other: (text, IO, S).
CLEAN = (
    ("When John and Mary went to the store, John gave a drink to", "Mary", "John"),
    ("When John and Mary went to the store, Mary gave a drink to", "John", "Mary"),
    ("When Tom and James went to the park, Tom gave a book to", "James", "Tom"),
    ("When Tom and James went to the park, James gave a book to", "Tom", "James"),
)
CORRUPTED = tuple((CLEAN[i ^ 1][0], *CLEAN[i][1:]) for i in range(4))
S2_TO_IO = "S2 to IO"
#: Where its second name stands, with BOS.
S2 = 10


@pytest.fixture(scope="module", params=["raw", "processed"])
def ioi(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> IOI:
    """A random model whose heads all do something, in both modes; prompts of several lengths."""
    folder = tmp_path_factory.mktemp("sweeps") / "tiny"
    save_tiny_gpt2(folder, n_layer=LAYERS, n_head=HEADS, n_embd=32)
    card = save_tiny_card(folder.parent / "tiny.toml", n_layer=LAYERS, n_head=HEADS)
    subject = Subject(prepare(Settings(name=str(folder), card=str(card), mode=request.param)))
    return task(subject, bos=True)


@pytest.fixture(scope="module")
def pairs(ioi: IOI) -> IOI:
    return ioi.published(CLEAN, corrupted={S2_TO_IO: CORRUPTED}, prepend_bos=True)


def plain_patch(ioi: IOI, prompt, puts, corruption: str = S2_TO_IO) -> tuple[float, float]:
    """Patched minus corrupted, and clean minus corrupted, with places of some activations from the clean pass.

    puts: (layer, site, places), a place as the hook's own activation of one prompt is indexed.
    """
    clean, corrupted = alone(ioi, prompt), alone(ioi, prompt.changed(corruption))
    key = (ioi.subject.mode, prompt, corruption)
    if key not in MADE:
        whole = plain_difference(ioi, clean)
        MADE[key] = plain_cache(ioi, clean), plain_difference(ioi, corrupted, answers=clean), whole
    cache, base, whole = MADE[key]
    names = [(f"blocks.{layer}.{HOOKS[site]}", places) for layer, site, places in puts]
    hooks = [put(name, places, cache[name][0]) for name, places in names]
    return plain_difference(ioi, corrupted, hooks, answers=clean) - base, whole - base


def of_head(head: int, part: str, length: int) -> list[tuple[int, int]]:
    """All places of one head's part: patterns have heads before positions."""
    return [(head, position) if part == "pattern" else (position, head) for position in range(length)]


@pytest.mark.parametrize("part", PARTS)
def test_a_sweep_over_a_part_of_every_head_is_the_plain_one(ioi, part):
    sweep = ioi.head_sweep(part=part, at=None, corruption=S2_TO_IO).take(N)
    for i, prompt in enumerate(ioi.prompts(N)):
        length = alone(ioi, prompt).tokens.shape[1]
        for head in all_heads(ioi):
            patched, whole = plain_patch(ioi, prompt, [(head.layer, SITES[part], of_head(head.head, part, length))])
            assert sweep.values[i][head] == pytest.approx(patched, abs=1e-4)
            assert sweep.weights[i] == pytest.approx(whole, abs=1e-4)
    assert np.abs(sweep.values).max() > 1e-2


@pytest.mark.parametrize("part", ["q", "v", "pattern"])
def test_a_part_at_one_position_is_the_plain_one(ioi, part):
    sweep = ioi.head_sweep(part=part, at="S2", corruption=S2_TO_IO).take(N)
    for i, prompt in enumerate(ioi.prompts(N)):
        where = int(alone(ioi, prompt).positions["S2"][0])
        for head in all_heads(ioi):
            place = (head.head, where) if part == "pattern" else (where, head.head)
            assert sweep.values[i][head] == pytest.approx(
                plain_patch(ioi, prompt, [(head.layer, SITES[part], [place])])[0], abs=1e-4
            )


@pytest.mark.parametrize("part", ["v", "pattern"])
def test_parts_of_several_heads_are_patched_together(ioi, part):
    heads = [Head(0, 1), Head(1, 2), Head(2, 0)]
    recovered = ioi.patch(heads, part=part, at=None, corruption=S2_TO_IO)
    share, recovery = recovered.share_of_output().take(N), recovered.recovery().take(N)
    for i, prompt in enumerate(ioi.prompts(N)):
        length = alone(ioi, prompt).tokens.shape[1]
        puts = [[(h.layer, SITES[one], of_head(h.head, one, length)) for h in heads] for one in (part, "output")]
        (patched, whole), (outputs, _) = (plain_patch(ioi, prompt, each) for each in puts)
        assert share.values[i] == recovery.values[i] == pytest.approx(patched, abs=1e-4)
        assert share.weights[i] == pytest.approx(outputs, abs=1e-4)
        assert recovery.weights[i] == pytest.approx(whole, abs=1e-4)


@pytest.mark.parametrize("site", BLOCKS)
def test_a_sweep_over_layers_and_roles_is_the_plain_one(ioi, site):
    sweep = ioi.residual_sweep(site=site, corruption=S2_TO_IO).take(N)
    for i, prompt in enumerate(ioi.prompts(N)):
        for layer in range(LAYERS):
            for column, role in enumerate(SWEPT_ROLES):
                where = int(alone(ioi, prompt).positions[role][0])
                patched, _ = plain_patch(ioi, prompt, [(layer, site, [(where,)])])
                assert sweep.values[i, layer, column] == pytest.approx(patched, abs=1e-4)


@pytest.mark.parametrize("site", BLOCKS)
def test_of_published_pairs_every_position_is_swept(pairs, site):
    sweep = pairs.residual_sweep(site=site, corruption=S2_TO_IO).take(8)
    length = alone(pairs, pairs.prompts(1)[0]).tokens.shape[1]
    assert sweep.n == 4 and sweep.exact and len(sweep.column_labels) == length
    assert sweep.column_labels[2] == "2 John" and sweep.column_labels[length - 1].endswith(" to")
    assert (sweep.values[:, :, :S2] == 0).all()
    for i, prompt in enumerate(pairs.prompts(N)):
        for layer in range(LAYERS):
            plain = [plain_patch(pairs, prompt, [(layer, site, [(position,)])])[0] for position in range(S2 - 1, length)]
            assert sweep.values[i, layer, S2 - 1 :] == pytest.approx(plain, abs=1e-4)


def test_before_the_first_layer_the_corrupted_position_is_all_there_is(pairs):
    """An identity on any weights: patching the stream before layer 0 gives the clean prompt back; and its counterparts."""
    sweep = pairs.residual_sweep(corruption=S2_TO_IO).take(4)
    assert np.flatnonzero(np.abs(sweep.values[:, 0]).max(0) > 1e-4).tolist() == [S2]
    assert sweep.values[:, 0, S2] == pytest.approx(sweep.weights, abs=1e-4)


def test_each_pair_is_one_observation_and_keeps_the_answers_of_the_clean_prompt(pairs):
    sweep = pairs.head_sweep(at=None, corruption=S2_TO_IO).take(4)
    assert sweep.clusters[0] == sweep.clusters[1] != sweep.clusters[2] == sweep.clusters[3]
    assert sweep.whole is not None and not sweep.whole.exact, "whether there is something to restore is asked of a sample"
    clean, corrupted = (each.logit_difference().take(4).values for each in (pairs, pairs.changed(S2_TO_IO)))
    assert corrupted == pytest.approx(-clean[[1, 0, 3, 2]], abs=1e-5)
    assert sweep.weights == pytest.approx(clean - corrupted, abs=1e-4)


def test_pairs_that_are_none_are_refused(ioi, pairs):
    with pytest.raises(ValueError, match="other answers"):
        ioi.published(CLEAN, corrupted={S2_TO_IO: [CLEAN[i ^ 1] for i in range(4)]}, prepend_bos=True)
    with pytest.raises(Untested, match=r"15 and 6 tokens .* must be equally many"):
        ioi.published(CLEAN[:1], corrupted={S2_TO_IO: [("John gave a drink to", "Mary", "John")]}, prepend_bos=True)
    with pytest.raises(ValueError, match="name swap"):
        pairs.head_sweep(at=None, corruption="name swap").take(2)
    with pytest.raises(ValueError, match="was published"):
        pairs.changed("ABC").logit_difference().take(2)
    longer = ("John and Mary saw that John gave a book to", "Mary", "John")
    other = ("John and Mary saw that Mary gave a book to", "Mary", "John")
    mixed = ioi.published([CLEAN[0], longer], corrupted={S2_TO_IO: [CORRUPTED[0], other]}, prepend_bos=True)
    with pytest.raises(ValueError, match="length"):
        mixed.residual_sweep(corruption=S2_TO_IO).take(2)


def test_attribution_and_patching_stand_side_by_side(ioi):
    """The estimate is in patching's cells and units; where they are compared, its own numbers come back out."""
    for of in ("output", "pattern", "mlp_out"):
        both = ioi.attribution_agreement(of).take(6)
        exact, estimated = halves(both.estimate)
        if of in PARTS:
            a, b = ioi.head_sweep(part=of, at=None, corruption=S2_TO_IO), ioi.attribution_sweep(part=of)
        else:
            a, b = ioi.residual_sweep(site=of, corruption=S2_TO_IO), ioi.residual_attribution_sweep(site=of)
        assert exact == pytest.approx(a.take(6).estimate) and estimated == pytest.approx(b.take(6).estimate)
        assert b.take(6).weights == pytest.approx(a.take(6).weights, abs=1e-4)
        expected = np.corrcoef(exact.ravel(), estimated.ravel())[0, 1]
        statistic = ioi.attribution_correlation(of).take(6)
        assert statistic.statistic(both.estimate) == pytest.approx(expected) == both.drawn["r"]
        assert ioi.attribution_error(of).take(6).statistic(both.estimate) == pytest.approx(np.abs(exact - estimated).max())
        assert len(both.drawn["points"]) == exact.size
    assert ioi.attribution_agreement("q").limit == 2 * len(ioi.population.templates)


def table(sweep, rows=None) -> PublishedTable:
    """What somebody who has measured the same would publish."""
    grid = sweep.take(8)
    values = {name: [grid.estimate[place]] for name, place in named_cells(grid).items() if rows and name in rows}
    values = values or dict(zip(grid.row_labels, grid.estimate.tolist(), strict=True))
    columns = ("share",) if rows else tuple(grid.column_labels)
    return PublishedTable("table", tuple(values), columns, tuple(map(tuple, values.values())), grid.unit, 1e-4, "made here")


def spoiled(published: PublishedTable) -> PublishedTable:
    first = (published.values[0][0] + 0.01, *published.values[0][1:])
    return replace(published, values=(first, *published.values[1:]))


def test_a_published_table_holds_where_it_is_true_and_falls_where_one_cell_is_not(pairs):
    """The demo prompts of a model that does the task, in small: all pairs prefer IO, so that there is something to restore."""
    expect = Expect(Paper(), Budget(120, 960), seed=0)
    heads, layers = pairs.head_sweep(at=None, corruption=S2_TO_IO), pairs.residual_sweep(corruption=S2_TO_IO)
    heads, layers = ((_doing_the_task(each)) for each in (heads, layers))
    for sweep, rows in ((heads, None), (heads, ("L0H1", "L2H3")), (layers, ("L0 10", "L2 14"))):
        published = table(sweep, rows)
        within = published.within or 0.0
        expect(published_difference(sweep, published)).below(within)
        with pytest.raises(Refuted, match="published"):
            expect(published_difference(sweep, spoiled(published))).below(within)
    expect(published_correlation(heads, table(heads))).above(0.99)
    other = replace(table(heads), values=tuple(row[::-1] for row in table(heads).values))
    with pytest.raises(Refuted):
        expect(published_correlation(heads, other)).above(0.99)
    figure = published_difference(heads, table(heads)).take(8).grid.figure()
    assert np.array(figure["expected"]) == pytest.approx(np.array(figure["values"]))
    with pytest.raises(KeyError, match="L9H9"):
        published_difference(heads, replace(table(heads, ("L0H1",)), rows=("L9H9",))).take(8)


def _doing_the_task(sweep):
    """The same with prompts that all prefer IO and have something to restore, as random weights rarely do.

    Two pairs are two observations: they have to be alike for an interval of two to tell their mean from zero.
    """

    def take(n: int) -> Grid:
        grid = replace(sweep.take(n), weights=np.array([7.0, 6.9, 7.1, 7.2]))
        return replace(grid, denominator=replace(grid.denominator, values=np.array([3.5, 3.4, 3.5, 3.6])))

    return replace(sweep, take=take)


def test_where_clean_and_corrupted_are_the_same_there_is_nothing_to_restore(ioi):
    """The control: a prompt as its own corruption leaves nothing to share, and whatever is said of a share is refuted."""
    same = ioi.published(CLEAN, corrupted={S2_TO_IO: CLEAN}, prepend_bos=True)
    expect = Expect(Paper(), Budget(120, 960), seed=0)
    sweep = same.head_sweep(at=None, corruption=S2_TO_IO)
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0, which no statement rests on
        assert np.abs(sweep.take(4).values).max() < 1e-5 and np.abs(sweep.take(4).weights).max() < 1e-5
        for measured in (published_difference(sweep, table(pairs_of(same))), same.attribution_correlation("v")):
            with pytest.raises(Refuted, match="nothing to take a share of"):
                expect(measured).below(0.999)


def pairs_of(same: IOI):
    """A sweep with numbers, for a table of the right shape."""
    return same.published(CLEAN, corrupted={S2_TO_IO: CORRUPTED}, prepend_bos=True).head_sweep(at=None, corruption=S2_TO_IO)


def test_what_a_family_moves_and_where_it_looks_are_told_apart(mini):
    """The control on the embedded model: what holds of its S-inhibition head's values is refuted of its name movers'."""
    ioi, expect = task(mini, bos=False, chunk=60), Expect(Paper(), Budget(60, 60), seed=0)
    cases: list[tuple[str, Part, Part]] = [("S-inhibition", "v", "pattern"), ("name mover", "pattern", "v")]
    for family, carrier, other in cases:
        heads = mini.card.heads(family)
        expect(ioi.patch(heads, part=carrier, at=None, corruption=S2_TO_IO).share_of_output()).above(0.5)
        with pytest.raises(Refuted):
            expect(ioi.patch(heads, part=other, at=None, corruption=S2_TO_IO).share_of_output()).above(0.5)


def test_the_numbers_read_off_the_grids():
    grid = np.array([[0.0, 0.0, 0.0, 1.0, 0.0], [0.1, 0.0, 0.0, 0.8, 0.3], [0.0, 0.0, 0.2, 0.4, 0.9]])
    stacked = np.stack([grid, -grid])
    assert brightest(stacked).tolist() == [1.0, 0.0]
    assert least_lead("S2", 2)(grid) == pytest.approx(0.5) and least_lead("S2", 3)(grid) == pytest.approx(-0.5)
    with pytest.raises(Untested, match="layer 1"):
        least_lead("S2", 1)
    assert pearson(stacked, grid) == pytest.approx([1, -1]) and pearson(np.ones((2, 2)), np.eye(2)) == 0
    assert correlation(np.concatenate([grid, 2 * grid + 1], axis=1)) == pytest.approx(1)


def test_sweeps_of_other_cells_are_not_compared(ioi):
    heads, layers = ioi.head_sweep(at=None, corruption=S2_TO_IO), ioi.residual_sweep(corruption=S2_TO_IO)
    with pytest.raises(ValueError, match="same cells"):
        two_sweeps(heads, layers, "both", "estimated").take(3)
