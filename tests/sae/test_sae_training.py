"""Training an SAE: the same weights again, and after a kill; nothing half written; a sentence for what cannot be trained."""

import json
import warnings
from dataclasses import asdict, replace

import pytest
import torch
from safetensors import safe_open

from circuit_claims.sae import training, training_checkpoint
from circuit_claims.sae.folder import SaeError, find_sae_folder
from circuit_claims.sae.text import GeneratedRows, Part
from circuit_claims.sae.training import Recipe, inference_sae, make_trainer, train
from circuit_claims.training.train_sae import export, main
from tests.support.tiny_models import save_tiny_gpt2
from tests.support.tiny_saes import tiny_subject

RECIPE = Recipe(
    layer=1, architecture="topk", width=48, k=4, tokens=4800, batch=96, buffer=8, window=10, monitor=10, held_out=4, save=1
)


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    return tiny_subject(tmp_path_factory.mktemp("subject") / "tiny")


class Noise:
    """Rows of random tokens, each from its own seed, which notes what it was asked for."""

    name, context = "noise", 24
    part: Part = "training"

    def __init__(self):
        self.asked = []

    def rows(self, first, n):
        self.asked.append((first, n))
        return torch.stack([self._row(number) for number in range(first, first + n)])

    def _row(self, number):
        return torch.randint(5, 200, (self.context,), generator=torch.Generator().manual_seed(number))


def weights(trained):
    return {name: tensor.clone() for name, tensor in trained.sae.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Killed(Exception):
    """As a kill would, in the middle of a step's bookkeeping."""


def killed_at(step):
    def told(done, seen):
        if done == step:
            raise Killed

    return told


@pytest.mark.parametrize("architecture", training.ARCHITECTURES)
def test_two_runs_give_the_same_bytes_and_another_seed_others(subject, tmp_path, architecture):
    recipe = replace(RECIPE, architecture=architecture, tokens=1920)
    files = []
    for run, seed in enumerate((0, 0, 1)):
        torch.manual_seed(run)  # whatever the state of torch's own generator
        trained = train(replace(recipe, seed=seed), subject, Noise(), Noise())
        export(trained.sae, {}, tmp_path / str(run))
        files.append((tmp_path / str(run) / "sae_weights.safetensors").read_bytes())
    assert files[0] == files[1] != files[2]


@pytest.mark.parametrize("architecture", training.ARCHITECTURES)
@pytest.mark.parametrize("step", [3, 23])
def test_a_training_that_was_killed_goes_on_as_if_it_had_not_been(subject, tmp_path, architecture, step):
    """Also across a change of the learning rate, the L1 coefficient's rise, features that die, and the monitoring."""
    recipe = replace(RECIPE, architecture=architecture, tokens=2880, save=2)
    whole = train(recipe, subject, Noise(), Noise())
    path = tmp_path / "a.checkpoint.safetensors"
    with pytest.raises(Killed):
        train(recipe, subject, Noise(), Noise(), checkpoint=path, told=killed_at(step))
    if step == 3:  # before the first checkpoint
        with pytest.raises(SaeError, match="begin one without --resume"):
            train(recipe, subject, Noise(), Noise(), checkpoint=path, resume=True)
        return
    resumed = train(recipe, subject, Noise(), Noise(), checkpoint=path, resume=True)
    assert same(weights(whole), weights(resumed))
    assert whole.curve == resumed.curve and len(whole.curve) == 3


def test_a_checkpoint_holds_tensors_and_json_alone(subject, tmp_path):
    path = tmp_path / "a.checkpoint.safetensors"
    train(RECIPE, subject, Noise(), Noise(), checkpoint=path)
    with safe_open(path, framework="pt") as file:
        names, state = set(file.keys()), json.loads(file.metadata()["state"])
    assert {"sae.W_dec", "optimizer.0.exp_avg", "optimizer.0.step", "trainer.act_freq_scores"} <= names
    assert state["settings"]["width"] == 48 and state["counts"]["n_training_steps"] == 50


def test_a_checkpoint_is_whole_or_the_one_before(subject, tmp_path, monkeypatch):
    path = tmp_path / "a.checkpoint.safetensors"
    with pytest.raises(Killed):
        train(RECIPE, subject, Noise(), Noise(), checkpoint=path, told=killed_at(20))
    before = path.read_bytes()

    def half(tensors, file, metadata):
        file.write_bytes(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(training_checkpoint, "save_file", half)
    with pytest.raises(OSError, match="no space"):
        train(RECIPE, subject, Noise(), Noise(), checkpoint=path, resume=True)
    assert path.read_bytes() == before


def test_what_is_saved_is_whole_or_what_was_there(subject, tmp_path, monkeypatch):
    trained = train(replace(RECIPE, tokens=192), subject, Noise(), Noise())
    folder = tmp_path / "sae"
    export(trained.sae, {"run": 1}, folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert set(before) == {"cfg.json", "sae_weights.safetensors", "training.json"}

    def half(path):
        path.mkdir()
        (path / "cfg.json").write_text("{")
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(trained.sae, "save_model", half)
        with pytest.raises(OSError, match="no space"):
            export(trained.sae, {"run": 2}, folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    export(trained.sae, {"run": 2}, folder)
    assert find_sae_folder(folder).record == {"run": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["sae"]


def test_a_training_is_resumed_with_what_it_was_begun_with(subject, tmp_path):
    path = tmp_path / "a.checkpoint.safetensors"
    with pytest.raises(Killed):
        train(RECIPE, subject, Noise(), Noise(), checkpoint=path, told=killed_at(20))
    with pytest.raises(SaeError, match="k 4, now 5"):
        train(replace(RECIPE, k=5), subject, Noise(), Noise(), checkpoint=path, resume=True)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SaeError, match="no whole checkpoint"):
        train(RECIPE, subject, Noise(), Noise(), checkpoint=path, resume=True)


def test_text_is_taken_a_buffer_at_a_time_and_none_twice(subject):
    """So that memory is one buffer's, however many tokens are asked for. The first is read once more, for the scale."""
    text = Noise()
    train(RECIPE, subject, text, Noise())
    assert text.asked == [(0, 8), *[(8 * number, 8) for number in range(25)]]


def test_training_reconstructs_what_it_sees_better_and_better(subject):
    curve = train(replace(RECIPE, tokens=48_000, width=64, k=8, monitor=100, rate=3e-3), subject, Noise(), Noise()).curve
    assert curve[-1]["explained_variance"] > curve[0]["explained_variance"] + 0.1
    assert all(0 < seen["l0"] <= 8 for seen in curve) and curve[-1]["tokens"] == 48_000
    assert set(curve[0]) >= {"step", "l0", "mse", "explained_variance", "loss_with_sae", "loss_recovered", "dead"}


def test_a_higher_penalty_gives_fewer_features_a_token(subject):
    recipe = replace(RECIPE, architecture="standard", tokens=19_200, rate=3e-3)
    l0 = [train(replace(recipe, l1=l1), subject, Noise(), Noise()).curve[-1]["l0"] for l1 in (0.1, 10.0)]
    assert l0[1] < l0[0] / 2


def test_what_is_saved_gives_what_was_trained(subject):
    """The scale of the inputs, and the decoder's norms, are folded in: features and reconstruction are the same."""
    trainer = make_trainer(RECIPE, subject, Noise())
    trainer.activation_scaler.scaling_factor = 0.37
    with torch.no_grad():
        trainer.sae.W_dec *= torch.linspace(0.5, 2.0, 48)[:, None]
        trainer.sae.b_enc += 0.1
    sae, x = inference_sae(trainer), torch.randn(20, 32, generator=torch.Generator().manual_seed(1))
    rebuilt = trainer.activation_scaler.unscale(trainer.sae(trainer.activation_scaler.scale(x)))
    torch.testing.assert_close(sae(x), rebuilt, atol=1e-5, rtol=1e-5)
    assert sae.cfg.normalize_activations == "none"


def test_the_embedded_models_text_is_held_out_by_row_and_by_pair_of_names():
    import random

    from circuit_claims.prompts import mini_corpus, mini_words
    from circuit_claims.prompts.ioi import half_of

    training, held_out = GeneratedRows("training"), GeneratedRows("held out")
    assert torch.equal(training.rows(5, 3), training.rows(0, 8)[5:])
    assert not torch.equal(training.rows(0, 1), GeneratedRows("training", 1).rows(0, 1))
    seen = {tuple(row) for row in training.rows(0, 300).tolist()}
    assert len(seen) == 300 and not seen & {tuple(row) for row in held_out.rows(0, 300).tolist()}
    for half in ("discovery", "verdict"):
        rng, found = random.Random(7), 0
        while found < 50:
            document = mini_corpus.draw_document(rng, {"ioi": 1.0, "described": 1.0, "abc": 1.0}, half)
            names = {word for text, _ in document for word in mini_words.split_words(text)} & set(mini_words.ALL_NAMES)
            if len(names) == 2:  # no bystanders: the two are IO and S
                found += 1
                assert half_of(*names) == half


# What cannot be trained.


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"architecture": "gated"}, "no architecture 'gated'"),
        ({"k": 49}, "must not be above the width"),
        ({"width": 0}, "width must be above 0"),
        ({"tokens": 50}, "too few for one step"),
        ({"rate": float("nan")}, "rate must be above 0"),
    ],
)
def test_a_recipe_that_means_nothing(wrong, says):
    with pytest.raises(SaeError, match=says):
        Recipe(**(asdict(RECIPE) | wrong))


def test_a_layer_that_is_not_there(subject):
    with pytest.raises(SaeError, match="tiny has 3 layers"):
        train(replace(RECIPE, layer=4), subject, Noise(), Noise())


def test_a_buffer_smaller_than_a_batch(subject):
    with pytest.raises(SaeError, match="take a larger buffer"):
        train(replace(RECIPE, buffer=2), subject, Noise(), Noise())


def test_a_model_of_nan(subject, monkeypatch):
    nan = staticmethod(lambda tokens, layer: torch.full((*tokens.shape, 32), torch.nan))
    monkeypatch.setattr(type(subject.transformer), "stop_at_layer", nan)
    with pytest.raises(SaeError, match="NaN"):
        train(RECIPE, subject, Noise(), Noise())


def test_a_loss_that_is_no_number(subject):
    with warnings.catch_warnings(), pytest.raises(SaeError, match="the loss is"):
        warnings.simplefilter("ignore")
        train(replace(RECIPE, architecture="standard", l1=1e38), subject, Noise(), Noise())


# The command.


def run(capsys, *given):
    with pytest.raises(SystemExit) as ended:
        main([str(part) for part in given])
    assert ended.value.code == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    return error


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    words = "Mary and John went to the store and gave a drink to the king of the garden".split()
    path.write_text("\n".join(" ".join(words[i % 11 :]) for i in range(600)))
    return path


def test_refusals(capsys, tmp_path, text):
    out = ("--out", tmp_path / "sae")
    assert "--layer" in run(capsys, "--subject", "gpt2", *out)
    assert "--out" in run(capsys, "--subject", "gpt2", "--layer", 1)
    assert "--text" in run(capsys, "--subject", "gpt2", "--layer", 1, *out)
    assert "must not be negative" in run(capsys, "--seed", -1)
    assert "cannot be written" in run(capsys, "--out", text)
    assert "no text file" in run(capsys, *out, "--text", tmp_path / "nowhere.txt")
    assert "--context must be from 2 to 96" in run(capsys, *out, "--text", text, "--context", 97)
    assert "too short" in run(capsys, *out, "--text", text, "--context", 32, "--tokens", 10_000_000)
    assert "no training to go on with" in run(capsys, *out, "--resume")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.txt"]


def test_the_command_on_a_text_file_and_again_after_a_kill(capsys, tmp_path, text, monkeypatch):
    folder = save_tiny_gpt2(tmp_path / "tiny", n_layer=2, n_head=2, n_embd=16)
    out = tmp_path / "sae"
    given = ["--subject", folder, "--layer", 1, "--text", text, "--context", 24, "--out", out, "--width", 32, "--k", 4]
    given = [str(part) for part in (*given, "--tokens", 3200, "--batch", 64, "--buffer", 8, "--threads", 1)]
    monkeypatch.setattr("circuit_claims.training.train_sae.MEASURED_ROWS", 4)
    recipe = Recipe.__init__.__defaults__
    monkeypatch.setattr(Recipe.__init__, "__defaults__", (*recipe[:-3], 10, 2, 1))
    steps = []

    def interrupt(watching, step, seen):
        steps.append(step)
        if step == 30:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("circuit_claims.training.train_sae.Watching.__call__", interrupt)
        assert "--resume" in run(capsys, *given)
    assert "was interrupted" in run(capsys, *given)
    main([*given, "--resume"])
    assert "loss recovered" in capsys.readouterr().out
    resumed = (out / "sae_weights.safetensors").read_bytes()
    assert not list(tmp_path.glob("*.checkpoint*"))
    main(given)
    assert (out / "sae_weights.safetensors").read_bytes() == resumed
    record = find_sae_folder(out).record
    assert record["recipe"]["width"] == 32 and record["held_out"]["rows"] == "2 to 5"
    assert [seen["step"] for seen in record["curve"]] == [10, 20, 30, 40, 50]
    assert record["model_weights_sha256"] == find_sae_folder(out).metadata["model_weights_sha256"]
