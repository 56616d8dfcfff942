"""How good an SAE is: our streamed sums against sae-lens's `run_evals` on the same tokens, and against plain loops."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from circuit_claims.sae import row_sums as measures
from circuit_claims.sae.folder import SaeError
from circuit_claims.sae.loaded import load_sae
from circuit_claims.sae.metrics_on_text import SaeText
from circuit_claims.sae.row_sums import counted_tokens, joined, row_sums, special_tokens
from circuit_claims.sae.text import Part
from tests.support.tiny_saes import tiny_sae_folder, tiny_subject

ROWS, CONTEXT = 6, 12


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    return tiny_subject(tmp_path_factory.mktemp("subject") / "tiny")


@pytest.fixture(scope="module", params=["standard", "topk"])
def sae(request, subject, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sae")
    metadata = {"residual_stream": "centred"}
    return load_sae(tiny_sae_folder(folder, architecture=request.param, metadata=metadata), subject)


@pytest.fixture(scope="module")
def rows(subject):
    """Rows with end-of-text tokens here and there, one at a row's end, and a padded row."""
    rows = torch.randint(5, 200, (ROWS, CONTEXT), generator=torch.Generator().manual_seed(5))
    eos, pad = subject.tokenizer.eos_token_id, subject.tokenizer.pad_token_id
    rows[0, 0] = rows[1, 4] = rows[1, 9] = rows[2, -1] = eos
    rows[3, 7:] = pad
    return rows


def special_of(subject, excluding):
    return special_tokens(subject.tokenizer) if excluding else ()


@pytest.mark.parametrize("excluding", [True, False], ids=["without special tokens", "with all tokens"])
def test_our_numbers_are_those_of_run_evals(sae, rows, excluding):
    from datasets import Dataset
    from sae_lens import ActivationsStore
    from sae_lens.evals import get_eval_everything_config, run_evals
    from sae_lens.training.activation_scaler import ActivationScaler

    bridge = sae.subject.bridge
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store = ActivationsStore.from_sae(
            bridge,
            sae.sae,
            Dataset.from_dict({"tokens": rows.tolist()}),
            context_size=CONTEXT,
            streaming=False,
            store_batch_size_prompts=ROWS,
            total_tokens=ROWS,
        )
        config = get_eval_everything_config(ROWS, n_eval_reconstruction_batches=1, n_eval_sparsity_variance_batches=1)
        theirs, of_features = run_evals(
            sae.sae,
            store,
            bridge,
            ActivationScaler(),
            config,
            exclude_special_tokens=special_of(sae.subject, excluding) if excluding else False,
        )
    sums, fired = row_sums(sae, rows, special_of(sae.subject, excluding))
    ours = sums.numbers()
    kept, lost = theirs["model_behavior_preservation"], theirs["model_performance_preservation"]
    quality = theirs["reconstruction_quality"]
    expected = {
        "l0": theirs["sparsity"]["l0"],
        "l1": theirs["sparsity"]["l1"],
        "mse": quality["mse"],
        "explained_variance": quality["explained_variance"],
        "cosine": quality["cossim"],
        "loss": lost["ce_loss_without_sae"],
        "loss_with_sae": lost["ce_loss_with_sae"],
        "loss_with_zeros": lost["ce_loss_with_ablation"],
        "loss_recovered": lost["ce_loss_score"],
        "kl": kept["kl_div_with_sae"],
        "kl_with_zeros": kept["kl_div_with_ablation"],
    }
    for name, value in expected.items():
        assert ours[name] == pytest.approx(value, rel=2e-4, abs=2e-5), name
    np.testing.assert_allclose(fired / sums.tokens.sum(), of_features["feature_density"], atol=1e-6)


def test_sae_lens_excludes_the_tokens_that_we_exclude(subject):
    """Besides these, sae-lens's own list has the unknown token, if the tokenizer names one."""
    from sae_lens.util import get_special_token_ids

    more = {getattr(subject.tokenizer, "unk_token_id", None)} - {None}
    assert set(get_special_token_ids(subject.tokenizer)) - more <= set(special_tokens(subject.tokenizer))


@torch.no_grad()
def test_our_numbers_are_those_of_a_plain_loop(sae, rows):
    """Row by row and token by token, through the bridge's hooks."""
    special = special_tokens(sae.subject.tokenizer)
    sums, fired = row_sums(sae, rows, special)
    bridge, hook = sae.subject.bridge, sae.hook_name
    kept = [[int(token) not in special for token in row] for row in rows]
    vectors = []
    for number, row in enumerate(rows):
        _, cache = bridge.run_with_cache(row[None], names_filter=[hook], prepend_bos=False)
        stream = cache[hook][0]
        rebuilt = sae.sae(stream)

        def put(x, hook, rebuilt=rebuilt, number=number):
            x = x.clone()
            for position, counts in enumerate(kept[number]):
                if counts:
                    x[0, position] = rebuilt[position]
            return x

        runs = {
            "loss": bridge(row[None], prepend_bos=False),
            "loss_sae": bridge.run_with_hooks(row[None], fwd_hooks=[(hook, put)], prepend_bos=False),
            "loss_zero": bridge.run_with_hooks(row[None], fwd_hooks=[(hook, lambda x, hook: x * 0)], prepend_bos=False),
        }
        tokens = [position for position, counts in enumerate(kept[number]) if counts]
        for name, logits in runs.items():
            total = sum(float(F.cross_entropy(logits[0, i], row[i + 1])) for i in tokens if i + 1 < CONTEXT)
            assert getattr(sums, name)[number] == pytest.approx(total, rel=1e-4)
        divergence = F.kl_div(runs["loss_sae"].log_softmax(-1), runs["loss"].log_softmax(-1), log_target=True, reduction="none")
        assert sums.kl[number] == pytest.approx(sum(float(divergence[0, i].sum()) for i in tokens), rel=1e-3)
        assert sums.tokens[number] == len(tokens)
        assert sums.l0[number] == sum(int((sae.sae.encode(stream[i]) != 0).sum()) for i in tokens)
        assert sums.error[number] == pytest.approx(sum(float((stream[i] - rebuilt[i]).pow(2).sum()) for i in tokens), rel=1e-4)
        vectors += [stream[i] for i in tokens]
    vectors = torch.stack(vectors)
    variance = float((vectors - vectors.mean(0)).pow(2).sum())
    assert sums.variance.sum() == pytest.approx(variance, rel=1e-4)
    assert sums.numbers()["explained_variance"] == pytest.approx(1 - sums.error.sum() / variance, rel=1e-3, abs=1e-4)
    np.testing.assert_array_equal(fired, (sae.sae.encode(vectors) != 0).sum(0).numpy())


def test_rows_in_small_lots_give_the_same_sums(sae, rows, monkeypatch):
    whole, fired = row_sums(sae, rows, (0,))
    monkeypatch.setattr(measures, "ACTIVATIONS", 1)
    split, fired_split = row_sums(sae, rows, (0,))
    np.testing.assert_allclose(split.loss_sae, whole.loss_sae, rtol=1e-5)
    np.testing.assert_array_equal(fired, fired_split)
    halves = joined([row_sums(sae, part, (0,))[0] for part in (rows[:2], rows[2:])])
    for name, value in whole.numbers().items():
        assert halves.numbers()[name] == pytest.approx(value, rel=1e-4), name


def test_a_perfect_dictionary_and_one_that_gives_the_mean(sae, rows):
    """Identities: all variance explained, all loss recovered, no KL; and none explained."""

    class Mirror:
        W_dec = torch.eye(32)

        def encode(self, x):
            return x

        def decode(self, features):
            return features

    perfect = row_sums(sae.with_dictionary(Mirror(), "a mirror"), rows)[0].numbers()
    assert perfect["explained_variance"] == pytest.approx(1) and perfect["loss_recovered"] == pytest.approx(1, abs=1e-6)
    assert perfect["kl"] == pytest.approx(0, abs=1e-6) and perfect["cosine"] == pytest.approx(1)
    mean = sae.stream(rows).mean((0, 1))
    flat: Any = Mirror()
    flat.decode = lambda features: mean.expand(features.shape)
    none = row_sums(sae.with_dictionary(flat, "the mean"), rows)[0].numbers()
    assert none["explained_variance"] == pytest.approx(0, abs=1e-5)
    zero: Any = Mirror()
    zero.decode = torch.zeros_like
    assert row_sums(sae.with_dictionary(zero, "zeros"), rows)[0].numbers()["loss_recovered"] == pytest.approx(0, abs=1e-6)


def test_no_text(sae):
    with pytest.raises(SaeError, match="no text"):
        row_sums(sae, torch.zeros(0, 12, dtype=torch.long))
    with pytest.raises(SaeError, match="special"):
        row_sums(sae, torch.zeros(2, 12, dtype=torch.long), (0,))


def test_special_tokens_are_not_counted():
    assert counted_tokens(torch.tensor([[0, 3, 2]]), (0, 2)).tolist() == [[False, True, False]]
    assert counted_tokens(torch.tensor([[0, 3, 2]]), ()).all()


class FixedRows:
    """Rows that are given."""

    name, context = "made up", CONTEXT
    part: Part = "held out"

    def __init__(self, rows):
        self.given, self.asked = rows, []

    def rows(self, first, n):
        self.asked.append((first, n))
        return self.given[first : first + n]


def test_measurements_are_the_numbers_and_each_row_is_measured_once(sae, rows):
    text = FixedRows(rows)
    story = SaeText(sae, text, chunk=4)
    numbers = row_sums(sae, rows, story.special)[0].numbers()
    expected = {
        "l0": story.l0(),
        "explained_variance": story.explained_variance(),
        "mse": story.mse(),
        "cosine": story.cosine(),
        "loss_recovered": story.loss_recovered(),
        "kl": story.kl(),
    }
    for name, measurement in expected.items():
        samples = measurement.take(ROWS)
        assert samples.n == ROWS and len(set(samples.clusters)) == ROWS
        assert samples.estimate == pytest.approx(numbers[name], rel=1e-5), name
        assert samples.facts["sae"]["hook"] == sae.hook_name
    added = story.loss_added().take(ROWS).estimate
    assert added == pytest.approx(numbers["loss_with_sae"] - numbers["loss"], rel=1e-4)
    assert text.asked == [(0, 4), (4, 2)]


def test_dead_and_dense_features_are_counted_by_feature(sae, rows, monkeypatch):
    monkeypatch.setattr("circuit_claims.sae.metrics_on_text.FIRING_ROWS", ROWS)
    story = SaeText(sae, FixedRows(rows))
    features = sae.encode(sae.stream(rows)[counted_tokens(rows, story.special)])
    rates = (features != 0).double().mean(0)
    assert story.dead().take(10_000).estimate == pytest.approx(float((rates == 0).double().mean()))
    assert story.dense().take(10_000).estimate == pytest.approx(float((rates > 0.1).double().mean()))
    assert story.dead().limit == sae.n_features and story.dead().take(7).n == sae.n_features
