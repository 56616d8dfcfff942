"""An SAE on a model: what does not go together is refused, and what is computed is what plain hooks on the bridge compute."""

import pytest
import torch

from circuit_claims.sae.folder import SaeError, find_sae_folder
from circuit_claims.sae.loaded import at_value, load_sae
from tests.support.other_architectures import load, save_tiny_decoder
from tests.support.tiny_saes import tiny_sae_folder, tiny_subject

TOKENS = torch.randint(5, 200, (5, 9), generator=torch.Generator().manual_seed(3))
END = torch.full((5, 1), 8)
CENTRED = {"metadata": {"residual_stream": "centred"}}


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    """One tiny model in both modes."""
    folder = tmp_path_factory.mktemp("subjects") / "tiny"
    return {mode: tiny_subject(folder, mode) for mode in ("raw", "processed")}


def says(folder, subject, *parts):
    with pytest.raises(SaeError) as caught:
        load_sae(folder, subject)
    for part in parts:
        assert part in str(caught.value)


def test_an_sae_of_another_width(subjects, tmp_path):
    says(tiny_sae_folder(tmp_path, d_in=31, **CENTRED), subjects["processed"], "31 numbers", "has 32")


def test_an_sae_of_another_model(subjects, tmp_path):
    folder = tiny_sae_folder(tmp_path, metadata={"model_name": "gpt2-small", "residual_stream": "centred"})
    says(folder, subjects["processed"], "of the model gpt2-small", "the subject is tiny")


def test_an_sae_of_another_hook(subjects, tmp_path):
    for hook in ("blocks.1.hook_mlp_out", "blocks.3.hook_resid_pre"):
        says(tiny_sae_folder(tmp_path / hook, metadata={"hook_name": hook}), subjects["raw"], hook)


def test_a_raw_sae_on_a_processed_model(subjects, tmp_path):
    folder = tiny_sae_folder(tmp_path)
    says(folder, subjects["processed"], "--weights raw")
    assert load_sae(folder, subjects["raw"]).takes_mean_off is False


def test_an_architecture_that_sae_lens_does_not_know(subjects, tmp_path):
    folder = tiny_sae_folder(tmp_path)
    cfg = tmp_path / "cfg.json"
    cfg.write_text(cfg.read_text().replace('"standard"', '"of tomorrow"'))
    says(find_sae_folder(tmp_path), subjects["raw"], f"sae-lens cannot load {folder.path}", "of tomorrow")


def test_an_empty_batch_and_a_stream_of_another_width(subjects, tmp_path):
    sae = load_sae(tiny_sae_folder(tmp_path), subjects["raw"])
    with pytest.raises(SaeError, match="no tokens"):
        sae.encode(torch.zeros(0, 4, 32))
    with pytest.raises(SaeError, match="32 numbers, and these have 31"):
        sae.encode(torch.zeros(2, 4, 31))


def test_rows_say_which_sae_and_that_the_model_has_other_weights(subjects, tmp_path):
    same = {"model_weights_sha256": subjects["raw"].weights_sha256}
    other = {"model_weights_sha256": "0" * 64}
    facts = load_sae(tiny_sae_folder(tmp_path / "a", metadata=same), subjects["raw"]).row_facts
    assert facts["sae"]["hook"] == "blocks.1.hook_resid_pre" and len(facts["sae"]["sha256"]) == 64
    assert "trained_on" not in facts["sae"] and "sae-lens" in facts["versions"]
    assert "trained_on" in load_sae(tiny_sae_folder(tmp_path / "b", metadata=other), subjects["raw"]).row_facts["sae"]


# The stream, and the model with something else in its place, against hooks on the bridge.


@pytest.mark.parametrize("mode", ["raw", "processed"])
@pytest.mark.parametrize("hook", ["blocks.0.hook_resid_pre", "blocks.1.hook_resid_pre", "blocks.2.hook_resid_post"])
def test_the_stream_is_the_one_at_the_bridges_hook(subjects, tmp_path, mode, hook):
    """Also the guard against an empty cache: a raw SAETransformerBridge gives one, silently, for an alias."""
    folder = tiny_sae_folder(tmp_path, metadata={"hook_name": hook, "residual_stream": "centred"})
    sae = load_sae(folder, subjects[mode])
    _, cache = subjects[mode].bridge.run_with_cache(TOKENS, names_filter=[hook], prepend_bos=False)
    assert hook in cache
    torch.testing.assert_close(sae.stream(TOKENS), cache[hook], atol=1e-5, rtol=0)


def plainly(subject, hook, put, tokens=TOKENS):
    """Log-probabilities with `put(stream)` in place of the stream at a hook of the bridge."""
    with torch.inference_mode():
        logits = subject.bridge.run_with_hooks(tokens, fwd_hooks=[(hook, lambda stream, hook: put(stream))], prepend_bos=False)
    return logits.log_softmax(-1)


@pytest.mark.parametrize("hook", ["blocks.0.hook_resid_pre", "blocks.1.hook_resid_pre", "blocks.2.hook_resid_post"])
@pytest.mark.parametrize("architecture", ["standard", "topk"])
def test_splicing_is_what_a_hook_does(subjects, tmp_path, hook, architecture):
    subject = subjects["processed"]
    metadata = {"hook_name": hook, "residual_stream": "centred"}
    sae = load_sae(tiny_sae_folder(tmp_path, architecture=architecture, metadata=metadata), subject)
    ours = subject.transformer.logits(sae.spliced(TOKENS)).log_softmax(-1)
    torch.testing.assert_close(ours, plainly(subject, hook, sae.sae), atol=2e-4, rtol=0)
    assert (ours - plainly(subject, hook, lambda stream: stream)).abs().max() > 0.1


@pytest.mark.parametrize("normalised", ["none", "layer_norm"])
def test_a_centred_sae_does_the_same_on_the_raw_model(subjects, tmp_path, normalised):
    """The mean that is taken off is put back, and no later layer sees it."""
    found = {}
    for mode, subject in subjects.items():
        sae = load_sae(tiny_sae_folder(tmp_path / mode, normalize_activations=normalised, **CENTRED), subject)
        found[mode] = (
            sae.features(TOKENS),
            subject.transformer.logits(sae.spliced(TOKENS)).log_softmax(-1),
            subject.transformer.logits(sae.ablated_at(TOKENS, END, [[0, 1, 2, 3]])).log_softmax(-1),
        )
    for raw, processed in zip(*found.values(), strict=True):
        torch.testing.assert_close(raw, processed, atol=2e-4, rtol=1e-4)


def test_a_raw_stream_given_to_a_centred_sae_would_be_another_one(subjects, tmp_path):
    """What the check is for: without the mean taken off, features differ and nothing complains."""
    sae = load_sae(tiny_sae_folder(tmp_path, **CENTRED), subjects["raw"])
    stream = sae.stream(TOKENS)
    assert sae.takes_mean_off
    assert (sae.sae.encode(stream) - sae.encode(stream)).abs().max() > 0.01


def test_what_is_decoded_like_a_stream_has_that_streams_scale(subjects, tmp_path):
    """With inputs normalised token by token, sae-lens decodes by the scale of whatever it encoded last."""
    sae = load_sae(tiny_sae_folder(tmp_path, normalize_activations="layer_norm"), subjects["raw"])
    stream = sae.stream(TOKENS)
    features = sae.encode(stream)
    expected = sae.sae(stream)
    sae.encode(stream * 7)
    torch.testing.assert_close(sae.decode(features, stream), expected)


# Features changed.


@pytest.fixture(scope="module")
def tiny(subjects, tmp_path_factory):
    return load_sae(tiny_sae_folder(tmp_path_factory.mktemp("sae"), **CENTRED), subjects["processed"])


def test_with_the_error_kept_and_nothing_changed_nothing_changes(tiny):
    run = tiny.subject.run(TOKENS)
    torch.testing.assert_close(tiny.spliced(TOKENS, keep_error=True), run.resid[-1], atol=1e-5, rtol=0)
    torch.testing.assert_close(tiny.changed_at(TOKENS, END, [lambda f: f])[0], run.resid[-1][:, -1], atol=1e-5, rtol=0)
    torch.testing.assert_close(tiny.ablated_at(TOKENS, END, [[]])[0], run.resid[-1][:, -1], atol=1e-5, rtol=0)
    everywhere = torch.ones_like(TOKENS, dtype=torch.bool)
    torch.testing.assert_close(tiny.spliced(TOKENS, keep=everywhere), run.resid[-1], atol=1e-5, rtol=0)


def test_ablating_is_what_a_hook_does(tiny):
    sets = [[0, 5, 7], [11]]
    positions = torch.tensor([[8], [3], [5], [8], [0]])
    ours = tiny.subject.transformer.logits(tiny.ablated_at(TOKENS, positions, sets)).log_softmax(-1)
    for features, found in zip(sets, ours, strict=True):

        def put(stream, features=features):
            stream = stream.clone()
            for prompt, position in enumerate(positions[:, 0]):
                one = stream[prompt, position]
                activations = tiny.sae.encode(one)
                for feature in features:
                    one = one - activations[feature] * tiny.sae.W_dec[feature]
                stream[prompt, position] = one
            return stream

        torch.testing.assert_close(found, plainly(tiny.subject, tiny.hook_name, put)[:, -1], atol=2e-4, rtol=0)


def test_steering_adds_a_vector_at_the_positions_alone(tiny):
    vectors = torch.stack([3 * tiny.directions[4], torch.zeros(32)])
    ours = tiny.subject.transformer.logits(tiny.steered_at(TOKENS, END, vectors)).log_softmax(-1)

    def put(stream):
        stream = stream.clone()
        stream[:, 8] += 3 * tiny.sae.W_dec[4]
        return stream

    torch.testing.assert_close(ours[0], plainly(tiny.subject, tiny.hook_name, put)[:, -1], atol=2e-4, rtol=0)
    torch.testing.assert_close(ours[1], plainly(tiny.subject, tiny.hook_name, lambda x: x)[:, -1], atol=2e-4, rtol=0)


def test_setting_a_feature_to_a_value_is_steering_by_the_difference(tiny):
    stream = tiny.stream(TOKENS)
    active = tiny.encode(stream)[:, 8, 4]
    by_value = tiny.changed_at(TOKENS, END, [at_value([4], 2.5)])[0]
    for prompt in range(len(TOKENS)):
        step = (2.5 - active[prompt]) * tiny.directions[4]
        by_step = tiny.steered_at(TOKENS[prompt : prompt + 1], END[:1], step[None])[0, 0]
        torch.testing.assert_close(by_value[prompt], by_step, atol=1e-4, rtol=0)


def test_logit_weights_are_the_change_of_logits_by_a_small_step_at_the_end(subjects, tmp_path):
    """After the last layer, a small step along a direction moves the logits by its weights over the norm's scale."""
    hook = {"hook_name": "blocks.2.hook_resid_post", "residual_stream": "centred"}
    sae = load_sae(tiny_sae_folder(tmp_path, metadata=hook), subjects["processed"])
    model_weights, stream = sae.subject.transformer.weights(), sae.stream(TOKENS)[0, -1].double()
    gain, _ = (part.double() for part in model_weights.ln_final)
    direction = sae.directions[4].double()
    direction = direction - direction.mean()
    scale = (stream.var(unbiased=False) + model_weights.eps).sqrt()
    expected = (direction / scale * gain) @ model_weights.W_U.double()
    weights = sae.logit_weights([4])[0].double()
    torch.testing.assert_close(weights / scale, expected - expected.mean(), atol=1e-5, rtol=1e-4)


def test_another_dictionary_takes_the_place_of_the_sae(tiny):
    class Mirror:
        W_dec = torch.eye(32)

        def encode(self, x):
            return x

        def decode(self, features):
            return features

    mirror = tiny.with_dictionary(Mirror(), "a mirror")
    assert mirror.n_features == 32 and mirror.facts["sae"] == "a mirror"
    torch.testing.assert_close(mirror.spliced(TOKENS), tiny.subject.run(TOKENS).resid[-1], atol=1e-5, rtol=0)


def test_on_an_architecture_that_is_computed_through_hooks(tmp_path):
    subject = load(save_tiny_decoder(tmp_path / "llama", "Llama"), "raw")
    for hook in ("blocks.1.hook_resid_pre", "blocks.2.hook_resid_post"):
        sae = load_sae(tiny_sae_folder(tmp_path / hook, metadata={"hook_name": hook}), subject)
        _, cache = subject.bridge.run_with_cache(TOKENS, names_filter=[hook], prepend_bos=False)
        torch.testing.assert_close(sae.stream(TOKENS), cache[hook], atol=1e-5, rtol=0)
        ours = subject.transformer.logits(sae.spliced(TOKENS)).log_softmax(-1)
        torch.testing.assert_close(ours, plainly(subject, hook, sae.sae), atol=2e-4, rtol=0)
