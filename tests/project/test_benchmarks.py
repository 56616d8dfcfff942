"""The benchmarks compare like with like: on a small model, every sweep and its peer give one grid. Nothing is timed here."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import machine
from benchmarks import test_real_decoder as of_a_real_decoder
from benchmarks.gpt2_small_shaped import work
from benchmarks.table import Row, markdown, write
from benchmarks.test_sweeps import SWEEPS
from benchmarks.timing import TOLERANCE, name_of
from circuit_claims.engine.decoder.transformer import Transformer
from circuit_claims.subjects.faithful_boot import load_model
from circuit_claims.subjects.subject import Settings, Subject, prepare
from tests.support.other_architectures import load, save_tiny_decoder
from tests.support.tiny_models import save_tiny_card, save_tiny_gpt2


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory):
    """As many layers and heads as GPT-2 small, and very narrow ones; 3 prompts of 6 tokens."""
    folder = tmp_path_factory.mktemp("narrow") / "narrow"
    save_tiny_gpt2(folder, n_layer=12, n_head=12, n_embd=48)
    card = save_tiny_card(folder.parent / "narrow.toml", n_layer=12, n_head=12)
    bridge = Subject(prepare(Settings(str(folder), card=str(card), device="cpu"))).bridge
    return work(bridge, Transformer(bridge), 3, 6)


@pytest.mark.parametrize("sweep", SWEEPS, ids=name_of)
def test_a_sweep_and_its_peer_measure_the_same(small, sweep):
    every = max(1, sweep.quick // 4)
    with torch.inference_mode():
        grid = sweep.ours(small, None)
    answer = sweep.peer(small, every)
    assert answer.of == grid.numel() and len(answer.values) == len(range(0, answer.of, every))
    ours = grid.flatten()[answer.places]
    difference = (ours - answer.values).abs().max()
    if sweep.exact:
        assert difference < TOLERANCE
        assert difference < ours.std() / 50, "the grid is flat, so agreeing on it means nothing"
    else:
        # An estimate: it agrees with the measured effects in what matters and not in every digit.
        both = torch.stack([ours, answer.values.detach()])
        assert torch.corrcoef(both)[0, 1] > 0.5 and difference > TOLERANCE


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory):
    """Two layers of four heads in groups of two, for the loops over transformers' own forward pass."""
    folder = save_tiny_decoder(tmp_path_factory.mktemp("llama") / "model", "Llama")
    subject = load(folder, "raw")
    return work(subject.bridge, subject.transformer, 3, 6).with_own(load_model(folder, torch.float32))


@pytest.mark.parametrize("sweep", of_a_real_decoder.SWEEPS, ids=name_of)
def test_a_plain_loop_over_transformers_measures_the_same(llama, sweep):
    with torch.inference_mode():
        grid = sweep.ours(llama, None)
    answer = sweep.peer(llama, 3)
    ours = grid.flatten()[answer.places]
    if sweep.exact:
        assert answer.of == grid.numel() and len(answer.values) == len(range(0, answer.of, 3))
        assert (ours - answer.values).abs().max() < min(TOLERANCE, float(ours.std()) / 50)
    else:
        assert torch.corrcoef(torch.stack([ours, answer.values]))[0, 1] > 0.5


@pytest.mark.parametrize("sweep", [sweep for sweep in SWEEPS if sweep.exact], ids=name_of)
def test_a_cap_on_memory_changes_no_number(small, sweep):
    with torch.inference_mode():
        assert (sweep.ours(small, None) - sweep.ours(small, 20_000)).abs().max() < 1e-5


def test_clean_and_corrupted_prompts_share_no_token(small):
    assert bool((small.clean != small.corrupted).all())


def test_flops_are_those_of_the_matrix_products():
    a, b, out = torch.randn(3, 4), torch.randn(4, 5), torch.randn(3, 5)
    assert machine.count_flops(lambda: a @ b) == 2 * 3 * 4 * 5
    assert machine.count_flops(lambda: torch.addmm(out, a, b, out=out)) == 2 * 3 * 4 * 5, "in place they count as well"


def test_peak_memory_sees_what_was_held_for_a_moment():
    def hold() -> None:
        torch.zeros(50_000_000).add_(1)
        for _ in range(20):
            torch.randn(100_000).sum()

    assert machine.peak_memory(hold, torch.device("cpu")) > 150_000_000


ROW = Row(
    "a model", "a sweep", 0.5, "a loop", 20.0, 40.0, 30, 1e-6, True, 16, 16, 144, 144, 10**9, 0.3, 0.6, "cpu", 2
)  # fmt: skip


def test_the_table_says_what_was_missed_and_what_was_scaled():
    missed = replace(ROW, ratio=24.0, peer_calls_timed=9, exact=False)
    met, below = markdown([ROW, missed]).splitlines()[2:]
    assert "| met" in met and "20.0 s " in met and "scaled" not in met and "estimate" not in met
    assert "20 % below" in below and "(scaled)" in below and "theirs is an estimate" in below


def test_the_file_has_the_promised_fields_and_is_written_whole(tmp_path: Path):
    path = tmp_path / "deep" / "benchmarks.json"
    write([ROW], path)
    (row,) = json.loads(path.read_text(encoding="utf-8"))
    assert {"sweep", "ours_s", "peer", "peer_s", "ratio", "max_abs_diff", "n_prompts", "n_tokens"} <= row.keys()
    assert [file.name for file in path.parent.iterdir()] == ["benchmarks.json"]
