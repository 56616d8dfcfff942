"""Whether prompts begin with BOS: as the tokenizer itself does, unless the user says."""

import json
from pathlib import Path

import pytest

from circuit_claims.models.subject_error import SubjectError
from circuit_claims.subjects.find import find_folder
from circuit_claims.subjects.subject import Settings, prepare
from circuit_claims.subjects.tokenizer import begins_with_bos, load_tokenizer
from tests.support.bos_models import begin_with_bos, change_tokenizer_config
from tests.support.claim_projects import claimed
from tests.support.tiny_models import save_tiny_card, save_tiny_gpt2
from tests.support.tiny_tokenizers import dummy_prefix_tokenizer, save_tiny_llama

CLAIM = '''
def test_a(ioi, expect):
    """The mean logit difference is some number."""
    expect(ioi.logit_difference(), "made up").above(-1000)
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model whose tokenizer has a BOS token, and puts it nowhere by itself."""
    return save_tiny_gpt2(tmp_path / "tiny", n_layer=2, n_head=2, n_embd=16)


def card_of(folder: Path) -> str:
    """A card of that model's shape, beside it."""
    return str(save_tiny_card(folder.parent / "tiny.toml", n_layer=2, n_head=2))


def resolved(folder: Path, prepend_bos: bool | None) -> bool:
    """What prompts of the subject begin with, where the user says this."""
    return prepare(Settings(str(folder), card=card_of(folder), device="cpu", prepend_bos=prepend_bos)).prepend_bos


def test_a_tokenizer_that_puts_nothing_first_has_prompts_without_bos(folder):
    assert resolved(folder, None) is False
    assert (resolved(folder, True), resolved(folder, False)) == (True, False)


@pytest.mark.parametrize("by", ["template", "flag"])
def test_a_tokenizer_that_puts_bos_first_has_prompts_with_it(folder, by):
    begin_with_bos(folder, by=by)
    assert resolved(folder, None) is True
    assert (resolved(folder, True), resolved(folder, False)) == (True, False)


def test_a_flag_that_says_no_leaves_the_template_its_say(folder):
    """transformers 5 tokenizes by the template, whatever the flag of a file says."""
    change_tokenizer_config(begin_with_bos(folder), add_bos_token=False)
    tokenizer = load_tokenizer(find_folder(str(folder)))
    first = tokenizer("When Mary").input_ids[0]
    assert begins_with_bos(tokenizer, find_folder(str(folder))) is (first == tokenizer.bos_token_id) is True


def test_a_tokenizer_without_bos_token_has_prompts_without_it_and_refuses_to_begin_with_it(folder):
    change_tokenizer_config(folder, bos_token=None, add_bos_token=True)
    assert resolved(folder, None) is False
    with pytest.raises(SubjectError, match=r"has no BOS token: run with --bos no$"):
        resolved(folder, True)


@pytest.mark.parametrize("written", [None, "{", "[]"], ids=["missing", "no JSON", "a list"])
def test_a_tokenizer_config_that_says_nothing_is_no_flag(folder, written):
    tokenizer, path = load_tokenizer(find_folder(str(folder))), folder / "tokenizer_config.json"
    path.unlink()
    if written is not None:
        path.write_text(written)
    assert begins_with_bos(tokenizer, find_folder(str(folder))) is False


@pytest.mark.parametrize("name", ["mini", "random:mini", "shuffled:mini", "planted", "random"])
def test_the_embedded_model_and_the_controls_read_prompts_without_bos(name):
    prepared = prepare(Settings(name, device="cpu"))
    assert prepared.tokenizer.bos_token_id is not None and prepared.prepend_bos is False


def test_a_llama_reads_prompts_with_bos_where_its_files_say_so(tmp_path):
    folder = save_tiny_llama(tmp_path / "llama", dummy_prefix_tokenizer())
    card = str(save_tiny_card(tmp_path / "card.toml", n_layer=3, n_head=4))
    assert prepare(Settings(str(folder), card=card, device="cpu")).prepend_bos is True
    change_tokenizer_config(folder, add_bos_token=False)
    assert prepare(Settings(str(folder), card=card, device="cpu")).prepend_bos is False


@pytest.mark.parametrize(
    ("options", "header", "with_bos"),
    [
        ([], "prompts: BOS as the tokenizer does, seed 0", True),
        (["--bos=no"], "prompts: without BOS, seed 0", False),
        (["--no-prepend-bos"], "prompts: without BOS, seed 0", False),
        (["--cc-prepend-bos"], "prompts: with BOS, seed 0", True),
    ],
)
def test_the_header_the_rows_and_the_report_say_whether_prompts_begin_with_bos(project, tmp_path, options, header, with_bos):
    folder = begin_with_bos(save_tiny_gpt2(tmp_path / "tiny", n_layer=2, n_head=2, n_embd=16))
    card = Path(card_of(folder))
    card.write_text(card.read_text() + "[settings]\nprepend_bos = false\n")
    result, (row,) = claimed(project, CLAIM, f"--subject={folder}", f"--card={card}", "--prompts=30", *options)
    assert next(line for line in result.outlines if line.startswith("prompts: ")).startswith(header)
    assert row["prepend_bos"] is with_bos
    report = json.loads((project.path / "report" / "claims.json").read_text(encoding="utf-8"))
    assert report["meta"]["prepend_bos"] is with_bos
    said = "the card tiny was measured without BOS, and this run is with BOS: its values may not apply"
    assert result.outlines.count(said) == int(with_bos), "once, before loading or after"
    assert [warning for warning in report["meta"]["warnings"] if said[1:] in warning] == [f"T{said[1:]}."] * with_bos


def test_workers_of_xdist_and_their_controller_know_it_too(project, tmp_path):
    folder = begin_with_bos(save_tiny_gpt2(tmp_path / "tiny", n_layer=2, n_head=2, n_embd=16))
    card = card_of(folder)
    result, (row,) = claimed(project, CLAIM, f"--subject={folder}", f"--card={card}", "--prompts=30", "-n", "1")
    assert row["prepend_bos"] is True, result.outlines
    assert json.loads((project.path / "report" / "claims.json").read_text(encoding="utf-8"))["meta"]["prepend_bos"] is True
