"""Which stream an SAE expects, from what its files and the registry say; no model, no network."""

from pathlib import Path

import pytest

from circuit_claims.sae.folder import SaeError, SaeFolder
from circuit_claims.sae.registry import with_registered
from circuit_claims.sae.stream_mode import place_of, same_model, stream_of, takes_mean_off


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, "raw"),
        ({"model_from_pretrained_kwargs": {}}, "raw"),
        ({"model_from_pretrained_kwargs": {"center_writing_weights": True}}, "centred"),
        ({"model_from_pretrained_kwargs": {"center_writing_weights": False, "fold_ln": True}}, "raw"),
        ({"normalize_activations": "layer_norm"}, "either"),
        ({"normalize_activations": "layer_norm", "model_from_pretrained_kwargs": {"center_writing_weights": True}}, "either"),
        ({"residual_stream": "centred"}, "centred"),
        ({"residual_stream": "raw", "model_from_pretrained_kwargs": {"center_writing_weights": True}}, "raw"),
        ({"normalize_activations": "none"}, "raw"),
        ({"normalize_activations": False}, "raw"),
        ({"normalize_activations": None}, "raw"),
    ],
)
def test_the_stream_is_read_off_the_metadata(metadata, expected):
    assert stream_of(metadata) == expected


@pytest.mark.parametrize("normalised", ["expected_average_only_in", "covariance_whitening", True])
def test_a_normalisation_by_an_unknown_factor_is_refused(normalised):
    with pytest.raises(SaeError, match="do not say by what"):
        stream_of({"normalize_activations": normalised})
    assert stream_of({"normalize_activations": normalised}, scaled=True) == "raw"


def test_an_unknown_stream_is_refused():
    with pytest.raises(SaeError, match="'folded'"):
        stream_of({"residual_stream": "folded"})


def registered(release: str, sae_id: str, **cfg) -> SaeFolder:
    """A folder with `cfg` in its cfg.json and what sae-lens's registry says of it: nothing is downloaded."""
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    found = get_pretrained_saes_directory()[release]
    assert sae_id in found.saes_map
    folder = SaeFolder(f"{release}/{sae_id}", Path(), "", cfg, {})  # nothing is read there
    return with_registered(folder, found.model, found.config_overrides, found.norm_scaling_factor.get(sae_id))


def test_the_registrys_word_on_gpt2_small_res_jb_is_centred_whatever_its_own_files_say():
    """ecosystem facts, E6: its cfg.json (before sae-lens 6) says nothing of it, and a newer one would say {}."""
    old = {"hook_point": "blocks.8.hook_resid_pre", "d_in": 768, "d_sae": 24576, "prepend_bos": True}
    new = {"d_in": 768, "metadata": {"hook_name": "blocks.8.hook_resid_pre", "model_from_pretrained_kwargs": {}}}
    for cfg in (old, new):
        folder = registered("gpt2-small-res-jb", "blocks.8.hook_resid_pre", **cfg)
        assert stream_of(folder.metadata) == "centred"
        assert place_of(folder.metadata, 12).layer == 8
        assert same_model(folder.metadata["model_name"], "gpt2")


def test_openais_are_the_same_on_either_stream():
    folder = registered("gpt2-small-resid-post-v5-32k", "blocks.8.hook_resid_post", normalize_activations="layer_norm")
    assert stream_of(folder.metadata) == "either"


@pytest.mark.parametrize(
    ("expected", "given", "off"),
    [
        ("raw", "raw", False),
        ("centred", "centred", False),
        ("centred", "raw", True),
        ("either", "raw", False),
        ("either", "centred", False),
    ],
)
def test_a_centred_sae_takes_the_mean_off_a_raw_stream_alone(expected, given, off):
    assert takes_mean_off(expected, given) is off


def test_a_raw_sae_is_refused_on_a_processed_model():
    with pytest.raises(SaeError, match="--weights raw"):
        takes_mean_off("raw", "centred")


@pytest.mark.parametrize(
    ("hook", "layer"),
    [
        ("blocks.2.hook_resid_pre", 2),
        ("blocks.2.hook_in", 2),
        ("blocks.2.hook_resid_post", 3),
        ("blocks.3.hook_resid_post", 4),
        ("blocks.0.hook_resid_pre", 0),
    ],
)
def test_a_hook_is_a_place_between_layers(hook, layer):
    assert place_of({"hook_name": hook}, 4).layer == layer
    assert place_of({"hook_point": hook}, 4).layer == layer


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({}, "names no hook"),
        ({"hook_name": "blocks.1.attn.hook_z"}, "residual stream between layers"),
        ({"hook_name": "blocks.1.hook_resid_mid"}, "residual stream between layers"),
        ({"hook_name": "blocks.4.hook_resid_pre"}, "has 4 layers"),
        ({"hook_name": "blocks.4.hook_resid_post"}, "has 4 layers"),
    ],
)
def test_another_place_is_refused(metadata, says):
    with pytest.raises(SaeError, match=says):
        place_of(metadata, 4)


def test_one_model_has_several_names():
    assert same_model("gpt2", "openai-community/gpt2") and same_model("gpt2-small", "gpt2") and same_model("mini", "mini")
    assert not same_model("mini", "gpt2")
