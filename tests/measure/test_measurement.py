"""The arithmetic of measurements on made-up samples: shares, differences, pools, columns, and what does not go together."""

import numpy as np
import pytest

from circuit_claims.measure.measurement import Measurement, combined, pooled, side_by_side
from circuit_claims.measure.samples import Samples

A = [1.0, 2.0, 6.0, 3.0, 9.0]
B = [2.0, 4.0, -2.0, 8.0, 10.0]
TEMPLATES = [0, 1, 0, 1, 0]


def made_up(values, *, clusters=TEMPLATES, weights=None, limit=None, name="made up", bos=True) -> Measurement:
    def take(n: int) -> Samples:
        n = min(n, len(values))
        cut = None if weights is None else np.array(weights[:n])
        prompts = [f"prompt {i}" for i in range(n)]
        return Samples(np.array(values[:n]), name, "logits", list(clusters)[:n], cut, prompts, "made-up prompts")

    return Measurement(take, bos, limit)


@pytest.mark.parametrize("n", [1, 3, 5])
def test_a_share_is_the_ratio_of_the_means(n):
    whole = made_up(B, name="the whole")
    share = made_up(A).share_of(whole, "a share of it")
    samples = share.take(n)
    assert samples.values.tolist() == A[:n] and samples.weights.tolist() == B[:n]
    assert samples.estimate == pytest.approx(sum(A[:n]) / sum(B[:n]))
    assert (samples.quantity, samples.unit, samples.population) == ("a share of it", "share", "made-up prompts")
    assert samples.clusters == TEMPLATES[:n] and samples.prompts == [f"prompt {i}" for i in range(n)]
    assert samples.whole.values.tolist() == B[:n]
    assert share.whole is whole and share.prepend_bos


def test_a_share_by_prompt_is_the_mean_of_the_ratios():
    samples = made_up(A).share_by_prompt_of(made_up(B), "ratios").take(5)
    assert samples.values == pytest.approx([0.5, 0.5, -3.0, 0.375, 0.9]) and samples.weights is None
    assert samples.estimate == pytest.approx((0.5 + 0.5 - 3.0 + 0.375 + 0.9) / 5)
    assert samples.estimate != pytest.approx(made_up(A).share_of(made_up(B), "").take(5).estimate)
    assert samples.clusters == TEMPLATES


def test_a_difference_is_taken_prompt_by_prompt():
    samples = made_up(A).minus(made_up(B), "what is lost", "logits").take(4)
    assert samples.values.tolist() == [-1.0, -2.0, 8.0, -5.0] and samples.weights is None
    assert (samples.quantity, samples.unit) == ("what is lost", "logits")
    assert samples.clusters == TEMPLATES[:4]


def test_a_formula_has_its_terms_in_their_order():
    terms = [made_up(A), made_up(B), made_up([1.0] * 5)]
    samples = combined(terms, lambda a, b, c: a * b - 10 * c, "a formula", "square logits").take(5)
    assert samples.values.tolist() == [a * b - 10 for a, b in zip(A, B, strict=True)]
    assert samples.unit == "square logits"
    # A difference may be a share's part, as long as the share comes last.
    share = made_up(A).minus(made_up(B), "", "logits").share_of(made_up(B), "share").take(5)
    assert share.estimate == pytest.approx((sum(A) - sum(B)) / sum(B))


def test_pooled_samples_lie_one_after_the_other_in_their_prompts_clusters():
    samples = pooled([made_up(A), made_up(B)], "both words", "rate").take(3)
    assert samples.values.tolist() == A[:3] + B[:3]
    assert samples.clusters == TEMPLATES[:3] * 2
    assert samples.prompts == ["prompt 0", "prompt 1", "prompt 2"] * 2
    assert samples.n == 6 and samples.estimate == pytest.approx((sum(A[:3]) + sum(B[:3])) / 6)
    assert (samples.quantity, samples.unit) == ("both words", "rate")


def test_columns_side_by_side_are_a_grid_of_one_row():
    columns = side_by_side([made_up(A), made_up(B)], ["a", "b"], "a and b", "logits")
    grid = columns.take(5)
    assert grid.values.shape == (5, 1, 2) and grid.weights is None and grid.whole is None
    assert grid.values[:, 0].tolist() == [[a, b] for a, b in zip(A, B, strict=True)]
    assert grid.estimate.tolist() == [[np.mean(A), np.mean(B)]]
    assert list(grid.column_labels) == ["a", "b"] and grid.clusters == TEMPLATES
    number = columns.of(lambda means: means[..., 0, 0] - means[..., 0, 1] ** 2, "a number", "x").take(5)
    assert number.statistic(number.grid.estimate) == pytest.approx(np.mean(A) - np.mean(B) ** 2)
    assert (number.quantity, number.unit) == ("a number", "x")


def test_columns_may_be_shares_of_one_whole_or_presuppose_it():
    whole = made_up([2.0] * 5, name="the whole")
    shares = side_by_side([made_up(A), made_up(B)], ["a", "b"], "", "share", whole=whole)
    assert shares.take(5).estimate[0] == pytest.approx([np.mean(A) / 2, np.mean(B) / 2])
    assert shares.take(5).whole.values.tolist() == [2.0] * 5 and shares.whole is whole
    plain = side_by_side([made_up(A)], ["a"], "", "logits", presupposes=whole)
    assert plain.take(5).estimate[0] == pytest.approx([np.mean(A)]), "divided by nothing"
    assert plain.take(5).whole.values.tolist() == [2.0] * 5 and plain.whole is whole


def test_what_presupposes_a_whole_keeps_its_values_and_shows_the_whole():
    whole = made_up(B)
    measurement = made_up(A).presupposing(whole)
    samples = measurement.take(3)
    assert samples.values.tolist() == A[:3] and samples.weights is None and samples.estimate == pytest.approx(3)
    assert samples.whole.values.tolist() == B[:3] and measurement.whole is whole
    assert made_up(A).take(3).whole is None


def test_a_share_may_presuppose_more_than_its_whole_and_each_once():
    change, answer = made_up([2.0] * 5, name="the change"), made_up(B, name="the answer")
    both = made_up(A).share_of(change, "a share of the change").presupposing(answer).take(5)
    assert both.estimate == pytest.approx(np.mean(A) / 2), "of the change alone"
    assert [part.values.tolist() for part in both.presupposed] == [B, [2.0] * 5], "the answer first"
    assert len(made_up(A).share_of(answer, "").presupposing(answer).take(5).presupposed) == 1
    assert made_up(A).take(5).presupposed == ()
    columns = side_by_side([made_up(A)], ["a"], "", "share", whole=change).presupposing(answer)
    number = columns.of(lambda means: means[..., 0, 0], "a number", "share").take(5)
    assert [part.values.tolist() for part in number.presupposed] == [B, [2.0] * 5]


def test_a_distribution_is_drawn_of_the_same_numbers():
    drawn = made_up(A).share_of(made_up(B), "").with_distribution().take(5)
    assert drawn.distribution and drawn.values.tolist() == A and drawn.weights.tolist() == B
    assert not made_up(A).share_of(made_up(B), "").take(5).distribution


#: All ways of putting two measurements together.
TOGETHER = {
    "share": lambda a, b: a.share_of(b, ""),
    "share by prompt": lambda a, b: a.share_by_prompt_of(b, ""),
    "minus": lambda a, b: a.minus(b, "", "logits"),
    "combined": lambda a, b: combined([a, a, b], lambda *terms: np.sum(terms, axis=0), "", "logits"),
    "pooled": lambda a, b: pooled([a, b], "", "rate"),
    "side by side": lambda a, b: side_by_side([a, b], ["a", "b"], "", "logits"),
    "side by side of a whole": lambda a, b: side_by_side([a], ["a"], "", "logits", whole=b),
}


@pytest.mark.parametrize("together", TOGETHER.values(), ids=TOGETHER)
def test_measurements_of_different_prompts_do_not_go_together(together):
    assert together(made_up(A), made_up(B)).take(5) is not None
    with pytest.raises(ValueError, match="one and other were not measured on the same prompts"):
        together(made_up(A, name="one"), made_up(B, clusters=[0, 1, 1, 1, 0], name="other")).take(5)
    with pytest.raises(ValueError, match="not measured on the same prompts"):
        together(made_up(A), made_up(B[:4])).take(5)


@pytest.mark.parametrize("together", TOGETHER.values(), ids=TOGETHER)
def test_a_share_is_no_part_of_a_further_sum(together):
    """Its values are numerators: to add them up would forget what they are shares of."""
    share = made_up(A).share_of(made_up(B), "a share")
    for a, b in ((share, made_up(B)), (made_up(B), share)):
        with pytest.raises(ValueError, match="a share is no part of a further sum"):
            together(a, b).take(5)


@pytest.mark.parametrize(
    "together",
    [
        lambda a: combined([a], lambda value: value, "", ""),
        lambda a: pooled([a], "", ""),
        lambda a: side_by_side([a], ["a"], "", ""),
    ],
    ids=["combined", "pooled", "side by side"],
)
def test_not_even_of_a_sum_of_one(together):
    assert together(made_up(A)).take(5) is not None
    with pytest.raises(ValueError, match="a share is no part of a further sum"):
        together(made_up(A).share_of(made_up(B), "a share")).take(5)


@pytest.mark.parametrize("together", TOGETHER.values(), ids=TOGETHER)
@pytest.mark.parametrize(("a", "b", "least"), [(None, None, None), (7, None, 7), (None, 7, 7), (7, 3, 3), (3, 7, 3)])
def test_the_smallest_limit_is_the_limit(together, a, b, least):
    """Whoever asks for more than the smallest population has would get samples of unequal length."""
    assert together(made_up(A, limit=a), made_up(B, limit=b)).limit == least


def test_a_change_of_the_prompts_is_no_difference_between_them():
    """Clean and corrupted prompts differ in their words, and in nothing that the arithmetic needs."""
    clean, corrupted = made_up(A), made_up(B)
    assert clean.take(2).prompts == corrupted.take(2).prompts
    other = Measurement(lambda n: Samples(np.array(B[:n]), "b", "logits", TEMPLATES[:n], prompts=["x"] * n), True)
    assert clean.minus(other, "", "logits").take(2).values.tolist() == [-1.0, -2.0]
