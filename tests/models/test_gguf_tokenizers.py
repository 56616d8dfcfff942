"""The tokenizer of a GGUF file reads texts as the file says: as what was written into it, and as llama.cpp cuts them."""

import io
from pathlib import Path

import pytest
from gguf import GGUFWriter
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from transformers import AutoTokenizer

from circuit_claims.models.subject_error import SubjectError
from circuit_claims.prompts.ioi import Population
from circuit_claims.subjects.find import find_folder
from circuit_claims.subjects.tokenizer import load_tokenizer
from tests.support.gguf_files import backend, tiny_llama, write_gguf

TEXTS = (" Mary and John", "The war lasted from 1732 to 17", " 1732", "naïve 東京", "don't\n\nI'LL  go")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> None:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def model():
    """What the files hold."""
    return tiny_llama()


def refused(file: Path) -> str:
    """The one sentence with which a file is refused."""
    with pytest.raises(SubjectError) as caught:
        find_folder(str(file))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("pre", ["gpt-2", "olmo", None])
def test_texts_are_read_as_the_tokenizer_that_was_written_reads_them(tmp_path, model, pre):
    tokenizer = load_tokenizer(find_folder(str(write_gguf(tmp_path / "tiny.gguf", model, pre=pre))))
    for text in TEXTS:
        assert tokenizer(text, add_special_tokens=False).input_ids == backend().encode(text).ids
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|begin|>", "<|end|>")
    assert len(tokenizer) == backend().get_vocab_size(), "GPT-2's own special token is none of this file"


def test_digits_are_cut_where_the_file_says_so(tmp_path, model):
    """transformers alone passes over the name."""
    file = write_gguf(tmp_path / "tiny.gguf", model, pre="smollm")
    alone = AutoTokenizer.from_pretrained(tmp_path, gguf_file=file.name)
    assert "1732" in "".join(alone.tokenize(" 1732")) and len(alone.tokenize(" 1732")) < 5
    tokenizer = load_tokenizer(find_folder(str(file)))
    assert tokenizer.tokenize(" 1732") == ["Ġ", "1", "7", "3", "2"]
    assert tokenizer.tokenize(" Mary") == alone.tokenize(" Mary")


def test_words_are_cut_as_llama_3_does_where_the_file_says_so(tmp_path, model):
    tokenizer = load_tokenizer(find_folder(str(write_gguf(tmp_path / "tiny.gguf", model, pre="llama-bpe"))))
    cut = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(" 17325")
    assert [piece for piece, _ in cut] == ["Ġ", "173", "25"]


@pytest.mark.parametrize("prefix", [True, False])
def test_a_sentencepiece_vocabulary_is_read_as_sentencepiece_reads_it(tmp_path, prefix):
    """Its bytes, its runs of spaces, and the space before a text."""
    pieces = sentencepiece(prefix)

    def add(writer: GGUFWriter) -> None:
        n_pieces = pieces.get_piece_size()
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list([pieces.id_to_piece(i) for i in range(n_pieces)])
        writer.add_token_scores([pieces.get_score(i) for i in range(n_pieces)])
        kinds = ((pieces.is_unknown, 2), (pieces.is_control, 3), (pieces.is_byte, 6))
        writer.add_token_types([next((number for is_it, number in kinds if is_it(i)), 1) for i in range(n_pieces)])
        writer.add_bos_token_id(pieces.bos_id())
        writer.add_eos_token_id(pieces.eos_id())
        writer.add_unk_token_id(pieces.unk_id())
        writer.add_add_space_prefix(prefix)

    model = tiny_llama(n_tokens=pieces.get_piece_size())
    tokenizer = load_tokenizer(find_folder(str(write_gguf(tmp_path / "tiny.gguf", model, tokens=add))))
    for text in (*TEXTS, "Mary", " Mary", "  Mary", "Then,  Mary and\tJohn ", "[17]"):
        assert tokenizer(text, add_special_tokens=False).input_ids == pieces.encode(text), text
    assert len(tokenizer) == pieces.get_piece_size() and tokenizer.bos_token == "<s>"


def sentencepiece(prefix: bool) -> SentencePieceProcessor:
    """Byte pairs of the suite's prompts; prefix: with a space before each text."""
    made = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(prompt.text for prompt in Population().sample(200, seed=0)),
        model_writer=made,
        vocab_size=700,
        model_type="bpe",
        byte_fallback=True,
        add_dummy_prefix=prefix,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    return SentencePieceProcessor(model_proto=made.getvalue())


def test_a_way_of_cutting_texts_that_nobody_knows_is_refused(tmp_path, model):
    message = refused(write_gguf(tmp_path / "tiny.gguf", model, pre="nonesuch"))
    assert "cuts texts in a way that is not known here ('nonesuch')" in message


def test_a_file_without_a_tokenizer_is_refused(tmp_path, model):
    assert "holds no tokenizer" in refused(write_gguf(tmp_path / "tiny.gguf", model, tokens=lambda writer: None))
