"""What is no SAE, of which model an SAE is, and whether the stream that it reads is centred: by measuring, not by flags."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from circuit_claims.sae.folder import SaeError, find_sae_folder
from circuit_claims.sae.loaded import load_sae
from circuit_claims.sae.stream_mode import centred_share, same_model, stream_at, stream_of, surely_another
from tests.support import other_architectures
from tests.support.tiny_saes import save_tiny_sae, tiny_sae_folder, tiny_subject

TOKENS = torch.randint(5, 200, (5, 9), generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    """One tiny GPT-2 in both modes."""
    folder = tmp_path_factory.mktemp("subjects") / "tiny"
    return {mode: tiny_subject(folder, mode) for mode in ("raw", "processed")}


@pytest.fixture(scope="module")
def nemotron(tmp_path_factory):
    """A tiny Nemotron, with partial rotary positions: the bridge's processing leaves its stream as it is."""
    with pytest.MonkeyPatch.context() as patch:
        more = {"num_key_value_heads": 2, "partial_rotary_factor": 0.5}
        patch.setitem(other_architectures.ARCHITECTURES, "Nemotron", ("NemotronConfig", more))
        folder = other_architectures.save_tiny_decoder(tmp_path_factory.mktemp("models") / "nemotron", "Nemotron")
    return {mode: other_architectures.load(folder, mode) for mode in ("raw", "processed")}


# What is no SAE.


def refusal(folder) -> str:
    with pytest.raises(SaeError) as caught:
        find_sae_folder(folder)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(": take an SAE of the residual stream")
    return str(caught.value)


@pytest.mark.parametrize("kind", ["Transcoder", "SkipTranscoder", "JumpReLUTranscoder", "JumpReLUSkipTranscoder"])
def test_sae_lens_own_transcoders_are_refused(tmp_path, kind):
    from sae_lens.saes import transcoder

    metadata = {"hook_name": "blocks.1.hook_resid_pre", "hook_name_out": "blocks.1.hook_mlp_out"}
    config = getattr(transcoder, f"{kind}Config")(d_in=32, d_out=32, d_sae=48, apply_b_dec_to_input=False)
    for key, value in metadata.items():
        setattr(config.metadata, key, value)
    getattr(transcoder, kind)(config).save_model(tmp_path)
    assert "is no SAE but a transcoder" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("said", "part"),
    [
        ({"metadata": {"hook_name_out": "blocks.1.hook_mlp_out"}}, "gives blocks.1.hook_mlp_out"),
        ({"metadata": {"hook_name_out": "blocks.2.hook_resid_pre"}}, "gives blocks.2.hook_resid_pre"),
        ({"metadata": {"out_hook_point": "blocks.1.hook_mlp_out"}}, "gives blocks.1.hook_mlp_out"),
        ({"hook_point_out": "blocks.1.hook_mlp_out"}, "gives blocks.1.hook_mlp_out"),
        ({"is_transcoder": True}, "is no SAE but a transcoder"),
        ({"d_out": 64}, "reads vectors of 32 numbers and gives 64"),
        ({"architecture": "crosscoder"}, "is no SAE but a crosscoder"),
        ({"architecture": "acausal_crosscoder"}, "is no SAE but a crosscoder"),
        ({"architecture": "temporal"}, "is no SAE but a temporal"),
        ({"metadata": {"hook_names": ["blocks.0.hook_resid_pre", "blocks.1.hook_resid_pre"]}}, "reads several places"),
        ({"metadata": {"hook_name": ["blocks.0.hook_resid_pre", "blocks.1.hook_resid_pre"]}}, "reads several places"),
    ],
)
def test_whatever_gives_something_else_than_it_reads_is_refused(tmp_path, said, part):
    folder = save_tiny_sae(tmp_path / "my", **{key: value for key, value in said.items() if key != "architecture"})
    cfg = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps(cfg | {"architecture": said.get("architecture", "standard")}))
    assert part in refusal(folder)


def test_what_gives_back_what_it_reads_is_an_sae_however_it_says_so(tmp_path):
    find_sae_folder(save_tiny_sae(tmp_path / "a", metadata={"hook_name_out": "blocks.1.hook_resid_pre"}, d_out=32))


# Whose it is.


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("openai-community/gpt2", "gpt2"),
        ("gpt2-small", "openai-community/gpt2"),
        ("/home/x/models/mini", "mini"),
        ("./runs/mini/", "mini"),
        ("C:\\models\\mini", "mini"),
        ("pythia-70m-deduped", "EleutherAI/pythia-70m-deduped"),
        ("gemma-2b", "google/gemma-2b"),
        ("Gemma-2B", "gemma-2b"),
        ("somebody/gpt2-large", "gpt2-large"),
    ],
)
def test_one_model_by_two_names(a, b):
    assert same_model(a, b) and same_model(b, a) and not surely_another(a, b)


@pytest.mark.parametrize(
    ("said", "subject", "another"),
    [
        ("gpt2-medium", "gpt2", True),
        ("distilgpt2", "gpt2", True),
        ("mini", "gpt2", True),
        ("/models/gpt2-medium", "gpt2", True),
        ("/models/run-3/checkpoint-500", "gpt2", False),
        ("~/my-model", "gpt2", False),
    ],
)
def test_a_folders_name_says_little_and_a_known_models_much(said, subject, another):
    assert surely_another(said, subject) is another


def test_an_sae_of_a_folder_or_of_the_same_weights_is_taken(subjects, tmp_path):
    weights = subjects["raw"].weights_sha256
    for number, said in enumerate(
        [{"model_name": "/home/x/tiny"}, {"model_name": "/a/b/c"}, {"model_name": "other", "model_weights_sha256": weights}]
    ):
        assert load_sae(tiny_sae_folder(tmp_path / str(number), metadata=said), subjects["raw"]).layer == 1
    with pytest.raises(SaeError, match="of the model other"):
        load_sae(tiny_sae_folder(tmp_path / "other", metadata={"model_name": "other"}), subjects["raw"])


# Whether the stream is centred.


def test_the_share_along_the_mean():
    vectors = torch.randn(7, 5, 32, generator=torch.Generator().manual_seed(0))
    assert centred_share(torch.ones(3, 32)) == pytest.approx(1)
    assert centred_share(vectors - vectors.mean(-1, keepdim=True)) < 1e-6
    one_hot = torch.eye(32)  # each has 1/32 of its square along the mean
    assert centred_share(one_hot) == pytest.approx(32**-0.5)


def test_gpt2s_stream_is_centred_by_processing_alone(subjects):
    for layer in range(4):
        assert stream_at(subjects["raw"], layer) == "raw"
        assert stream_at(subjects["processed"], layer) == "centred"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_the_same_in_other_precisions(tmp_path, dtype):
    from circuit_claims.subjects.subject import Settings, Subject, prepare
    from tests.support.tiny_models import save_tiny_card, save_tiny_gpt2

    folder = save_tiny_gpt2(tmp_path / "tiny", n_layer=3, n_head=4, n_embd=32)
    card = save_tiny_card(tmp_path / "tiny.toml", n_layer=3, n_head=4)
    for mode, stream in (("raw", "raw"), ("processed", "centred")):
        subject = Subject(prepare(Settings(name=str(folder), card=str(card), mode=mode, dtype=dtype, device="cpu")))
        assert [stream_at(subject, layer) for layer in range(4)] == [stream] * 4


def test_a_stream_that_is_centred_without_processing_is_either(subjects):
    raw = subjects["raw"]
    engine = SimpleNamespace(d_vocab=200, stop_at_layer=lambda tokens, layer: torch.tensor([[[1.0, -1.0, 2.0, -2.0]]]))
    centred: Any = SimpleNamespace(mode="raw", dtype=raw.dtype, device=raw.device, transformer=engine)
    assert stream_at(centred, 1) == "either"


def test_nemotrons_stream_is_not_centred_and_its_sae_gets_the_mean_taken_off(nemotron, tmp_path):
    """By the flag alone the SAE would be given the raw stream as if it were centred."""
    folder = tiny_sae_folder(tmp_path, metadata={"model_from_pretrained_kwargs": {"center_writing_weights": True}})
    for subject in nemotron.values():
        assert stream_at(subject, 1) == "raw"
        sae = load_sae(folder, subject)
        stream = sae.stream(TOKENS)
        mean = stream.mean(-1, keepdim=True)
        assert mean.abs().max() > 0.05, "the stream is not centred"
        torch.testing.assert_close(sae.reconstruct(stream), sae.sae(stream - mean) + mean)
        assert (sae.reconstruct(stream) - sae.sae(stream)).abs().max() > 0.05


def test_a_raw_sae_runs_on_a_processed_model_that_is_not_centred(nemotron, tmp_path):
    sae = load_sae(tiny_sae_folder(tmp_path), nemotron["processed"])
    assert sae.takes_mean_off is False


def test_nothing_is_centred_of_a_model_with_rms_norm_whatever_was_asked():
    """TransformerLens leaves out centring there, so that an SAE trained with the flag has seen the raw stream."""
    asked = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    assert stream_of(asked, norm="RMSPre") == stream_of(asked, norm="RMS") == "raw"
    assert stream_of(asked, norm="LNPre") == "centred" == stream_of({"residual_stream": "centred"}, norm="RMS")


def test_registered_words_count_for_what_is_no_sae(tmp_path):
    from circuit_claims.sae.folder import refuse_what_is_no_sae
    from circuit_claims.sae.registry import with_registered

    folder = with_registered(tiny_sae_folder(tmp_path), "gpt2", {"hook_name_out": "blocks.1.hook_mlp_out"}, None)
    with pytest.raises(SaeError, match=r"gives blocks\.1\.hook_mlp_out"):
        refuse_what_is_no_sae(folder)
    assert "hook_name_out" not in json.loads((tmp_path / "cfg.json").read_text())["metadata"]
