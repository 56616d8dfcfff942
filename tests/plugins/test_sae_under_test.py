"""Which SAE a claim is put to, what its rows say of it, and that a wrong one is one sentence before any claim runs."""

import sys
from typing import Any

import pytest

# Imported here, since an inner run in this process forgets the modules that it was the first to import.
import sae_lens  # noqa: F401

from circuit_claims.sae import folder as sae_folder
from circuit_claims.sae.text import documents_of, look_through
from circuit_claims.subjects.find import find_folder
from tests.support.claim_projects import claimed, run, verdicts, write
from tests.support.tiny_models import save_tiny_card, save_tiny_gpt2
from tests.support.tiny_saes import save_tiny_sae

CLAIMS = '''
def test_sparse(sae_text, expect):
    """Features a token are fewer than there are."""
    expect(sae_text.l0(), "made up").below(sae_text.sae.n_features)

def test_splice(sae, sae_text, expect):
    """Splicing costs something."""
    expect(sae_text.kl(), "made up").above(0)
'''
WITHOUT = '''
def test_other(subject, expect):
    """What needs no SAE."""
    expect(sizes(2, 2, 2), "made up").above(1)
'''


@pytest.fixture
def tiny(tmp_path):
    """The command line of a tiny model with its card, and text."""
    folder = save_tiny_gpt2(tmp_path / "tiny", n_layer=3, n_head=4, n_embd=32)
    card = save_tiny_card(tmp_path / "tiny.toml", n_layer=3, n_head=4)
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"Mary and John went to the {'store king garden'.split()[i % 3]} and gave" for i in range(3000)))
    return [f"--subject={folder}", f"--card={card}", f"--sae-text={text}", "--prompts=30", "--max-prompts=60"]


def usage_error(result, *parts):
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = result.stderr.str() + result.stdout.str()
    for part in parts:
        assert part in said
    assert "Traceback" not in said


CENTRED: dict[str, Any] = {"metadata": {"residual_stream": "centred", "model_name": "tiny"}}


def test_claims_on_a_folder_say_which_sae_it_was(project, tiny, tmp_path):
    folder = save_tiny_sae(tmp_path / "my-sae", **CENTRED)
    result, rows = claimed(project, CLAIMS, *tiny, f"--sae={folder}")
    assert verdicts(rows) == ["holds", "holds"], result.stdout.str()
    for row in rows:
        assert row["sae"]["sae"] == "my-sae" and row["sae"]["hook"] == "blocks.1.hook_resid_pre"
        assert "sae-lens" in row["versions"] and row["subject"] == "tiny"


def test_without_text_what_needs_it_is_untested(project, tiny, tmp_path):
    folder = save_tiny_sae(tmp_path / "my-sae", **CENTRED)
    _, rows = claimed(project, CLAIMS, *(part for part in tiny if "--sae-text" not in part), f"--sae={folder}")
    assert verdicts(rows) == ["untested"] * 2 and "--sae-text" in rows[0]["reason"]


def test_where_none_is_embedded_claims_are_untested(project, tiny):
    _, rows = claimed(project, CLAIMS, *tiny)
    assert verdicts(rows) == ["untested"] * 2 and "make sae" in rows[0]["reason"]


def test_one_embedded_for_other_weights_is_untested(project, tmp_path, monkeypatch):
    folder = save_tiny_sae(tmp_path / "mini-sae", d_in=128, metadata={"model_weights_sha256": "0" * 64})
    monkeypatch.setitem(sae_folder.EMBEDDED_SAES, "mini", folder)
    _, rows = claimed(project, CLAIMS)
    assert verdicts(rows) == ["untested"] * 2 and "other weights" in rows[0]["reason"]


def test_the_one_embedded_for_the_subject_is_taken_without_a_word(project, tmp_path, monkeypatch):
    metadata = {"model_weights_sha256": find_folder("mini").sha256(), "residual_stream": "centred"}
    folder = save_tiny_sae(tmp_path / "mini-sae", d_in=128, metadata=metadata)
    monkeypatch.setitem(sae_folder.EMBEDDED_SAES, "mini", folder)
    result, rows = claimed(project, CLAIMS, "--prompts=30", "--max-prompts=60")
    assert verdicts(rows) == ["holds", "holds"], result.stdout.str()
    assert {row["sae"]["source"] for row in rows} == {"embedded in this project"}


@pytest.mark.parametrize(
    ("said", "parts"),
    [
        ({"metadata": {"model_name": "tiny"}}, ["trained on the raw residual stream", "--weights raw"]),
        ({"d_in": 31, **CENTRED}, ["31 numbers"]),
        ({"metadata": {"residual_stream": "centred", "model_name": "gpt2"}}, ["of the model gpt2"]),
        ({"metadata": {"residual_stream": "centred", "hook_name": "blocks.7.hook_resid_pre"}}, ["has 3 layers"]),
        ({"metadata": {"residual_stream": "centred", "hook_name": "blocks.1.attn.hook_z"}}, ["residual stream between layers"]),
        ({"normalize_activations": "expected_average_only_in"}, ["do not say by what"]),
    ],
    ids=["mode", "width", "model", "layer", "hook", "scale"],
)
def test_an_sae_that_does_not_fit_is_a_usage_error(project, tiny, tmp_path, said, parts):
    folder = save_tiny_sae(tmp_path / "my-sae", **said)
    result, rows = claimed(project, CLAIMS, *tiny, f"--sae={folder}")
    usage_error(result, *parts)
    assert rows == []


def test_a_raw_sae_runs_on_raw_weights(project, tiny, tmp_path):
    folder = save_tiny_sae(tmp_path / "my-sae", metadata={"model_name": "tiny"})
    _, rows = claimed(project, CLAIMS, *tiny, f"--sae={folder}", "--weights=raw")
    assert verdicts(rows) == ["holds", "holds"]


@pytest.mark.parametrize("name", ["./nowhere", "no-such-release/blocks.1.hook_resid_pre"])
def test_a_name_of_nothing_is_a_usage_error(project, tiny, name):
    usage_error(claimed(project, CLAIMS, *tiny, f"--sae={name}")[0], "there is no folder")


def test_a_short_text_is_measured_whole_and_no_further(project, tiny, tmp_path):
    folder = save_tiny_sae(tmp_path / "my-sae", **CENTRED)
    text = tmp_path / "text.txt"
    text.write_text("".join(text.read_text()[:12_000]))
    far = CLAIMS.replace("above(0)", "above(1e9)").replace("below(sae_text.sae.n_features)", "near(24, within=1e-9)")
    _, rows = claimed(project, far, *tiny[:-1], "--max-prompts=900", f"--sae={folder}")
    assert verdicts(rows)[1] == "refuted" and all(8 <= row["n"] < 40 for row in rows)


def test_text_that_is_too_short_is_said(project, tiny, tmp_path):
    folder = save_tiny_sae(tmp_path / "my-sae", **CENTRED)
    (tmp_path / "text.txt").write_text("Mary and John went to the store")
    _, rows = claimed(project, CLAIMS, *tiny, f"--sae={folder}")
    assert verdicts(rows) == ["untested"] * 2 and "too short" in rows[0]["reason"]


def test_claims_that_need_no_sae_do_not_load_one(project, tiny, monkeypatch):
    monkeypatch.setattr("circuit_claims.fixtures.sae._load", lambda config: pytest.fail("it was loaded"))
    write(project, WITHOUT)
    _, rows = run(project, *tiny, "--sae=./nowhere")
    assert verdicts(rows) == ["holds"]


def test_collecting_claims_imports_neither_torch_nor_sae_lens(project):
    """In a process of its own."""
    write(project, CLAIMS)
    project.path.joinpath("look.py").write_text(
        "import sys, pytest\n"
        "status = pytest.main(['--collect-only', '-q', 'claims'])\n"
        "assert not {'torch', 'sae_lens', 'transformer_lens'} & set(sys.modules)\n"
        "sys.exit(status)\n"
    )
    result = project.run(sys.executable, "look.py")
    assert result.ret == 0, result.stderr.str()


def test_a_text_that_is_not_there_is_refused_before_anything_is_loaded(project, tiny):
    result, rows = claimed(project, CLAIMS, *(part for part in tiny if "--sae-text" not in part), "--sae-text=nosuch.txt")
    usage_error(result, "there is no text file nosuch.txt: name a file, or a data set of the hub")
    assert rows == []


UNREADABLE = {
    "binary": (b"\x80\x81\x82" * 99, "text.txt", "cannot be read as text"),
    "binary after some text": (b"Mary " * 99_999 + b"\xff", "text.txt", "cannot be read as text"),
    "empty": (b"", "text.txt", "has nothing in it"),
    "blank": (b"\xef\xbb\xbf \n \n", "text.txt", "has nothing in it"),
    "no JSON": (b"Mary and John", "text.jsonl", "JSON lines"),
    "no text": (b'{"text": 3}', "text.jsonl", "JSON lines"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_text_that_cannot_be_read_is_one_sentence_for_the_run(project, tiny, tmp_path, kind):
    written, name, says = UNREADABLE[kind]
    (tmp_path / name).write_bytes(written)
    result, rows = claimed(
        project, CLAIMS, *(part for part in tiny if "--sae-text" not in part), f"--sae-text={tmp_path / name}"
    )
    usage_error(result, says, name)
    assert rows == []


def test_a_folder_is_no_text(project, tiny, tmp_path):
    result, _ = claimed(project, CLAIMS, *(part for part in tiny if "--sae-text" not in part), f"--sae-text={tmp_path}")
    usage_error(result, "is a folder: name a text file")


def test_a_mark_before_utf_8_is_no_text(tmp_path):
    for name, written in {"text.txt": "Mary", "text.jsonl": '{"text": "Mary"}'}.items():
        (tmp_path / name).write_text(written, encoding="utf-8-sig")
        look_through(str(tmp_path / name))
        assert list(documents_of(str(tmp_path / name))()) == ["Mary", None]
