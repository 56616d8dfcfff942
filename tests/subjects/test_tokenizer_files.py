"""A tokenizer is read as its tokenizer.json says, whatever class is named beside it."""

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer

from circuit_claims.models.folder import EMBEDDED, ModelFolder
from circuit_claims.models.subject_error import SubjectError
from circuit_claims.prompts.batch import make_batches
from circuit_claims.prompts.greater_than import years_for
from circuit_claims.prompts.ioi import Population
from circuit_claims.prompts.word_tokens import inside
from circuit_claims.subjects.tokenizer import load_tokenizer

TEXTS = (" 1732", "The war lasted from the year 1732 to the year 17", " Mary", "Mary", "  Mary", "mary\nJOHN", "naïve 東京")


def folder_of(path: Path, **config) -> ModelFolder:
    """A model's folder of which only the tokenizer's files are looked at."""
    return ModelFolder(path.name, path, "made up", {"vocab_size": 60000} | config, (), 0)


def saved(path: Path, backend: Tokenizer, **config) -> ModelFolder:
    """A folder with this tokenizer.json, this tokenizer_config.json, and GPT-2's config.json."""
    path.mkdir(exist_ok=True)
    backend.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    (path / "config.json").write_text('{"model_type": "gpt2"}')
    return folder_of(path)


@pytest.fixture
def backend(gpt2_folder) -> Tokenizer:
    """GPT-2's tokenizer, to change."""
    return Tokenizer.from_str(AutoTokenizer.from_pretrained(gpt2_folder).backend_tokenizer.to_str())


def small_backend() -> Tokenizer:
    """Byte pairs of English, trained on a few sentences, read as GPT-2's are."""
    from tokenizers import trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"])
    prompts = [prompt.text for prompt in Population().sample(300, seed=0)]
    backend.train_from_iterator(prompts + [f" {year}" for year in range(1100, 1900)] * 3, trainer)
    return backend


def read(backend_or_path, text: str) -> list[int]:
    backend = Tokenizer.from_file(str(backend_or_path / "tokenizer.json"))
    backend.no_truncation()
    backend.no_padding()
    return backend.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("named", [{"tokenizer_class": "GPT2Tokenizer"}, {"tokenizer_class": "GPT2TokenizerFast"}, {}])
def test_digits_that_the_file_splits_are_split(tmp_path, named):
    """GPT-2's class would read " 1732" in fewer tokens, from the same vocabulary."""
    backend = small_backend()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    folder = saved(tmp_path / "digits", backend, **named)
    by_class = AutoTokenizer.from_pretrained(folder.path)
    assert by_class(" 1732", add_special_tokens=False).input_ids != read(folder.path, " 1732"), "the class alone is wrong"
    tokenizer = load_tokenizer(folder)
    for text in TEXTS:
        assert tokenizer(text, add_special_tokens=False).input_ids == read(folder.path, text)
    assert tokenizer.bos_token_id == by_class.bos_token_id == 0
    assert tokenizer.convert_ids_to_tokens(inside(tokenizer, "1732")) == ["1", "7", "3", "2"]


@pytest.mark.parametrize(
    "change",
    [
        lambda backend: setattr(backend, "normalizer", normalizers.Lowercase()),
        lambda backend: setattr(backend, "normalizer", normalizers.Replace(Regex(" {2,}"), " ")),
        lambda backend: setattr(backend, "normalizer", normalizers.NFKC()),
        lambda backend: setattr(backend, "pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=True)),
        lambda backend: setattr(backend, "pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)),
        lambda backend: backend.add_tokens([AddedToken(" Mary", normalized=False)]),
    ],
    ids=["lower case", "double spaces", "NFKC", "prefix space", "no words", "an added token"],
)
def test_whatever_else_a_class_leaves_out_is_as_in_the_file(tmp_path, change):
    backend = small_backend()
    change(backend)
    folder = saved(tmp_path / "changed", backend, tokenizer_class="GPT2Tokenizer")
    tokenizer = load_tokenizer(folder)
    for text in (*TEXTS, " Mary and John", "Then, Mary", "ﬁne"):
        assert tokenizer(text, add_special_tokens=False).input_ids == read(folder.path, text), text


def test_a_text_that_is_still_read_in_two_ways_is_named(tmp_path, monkeypatch):
    import transformers

    backend = small_backend()
    backend.normalizer = normalizers.Lowercase()
    folder = saved(tmp_path / "two ways", backend, tokenizer_class="GPT2Tokenizer")
    by_class = AutoTokenizer.from_pretrained(folder.path)
    monkeypatch.setattr(transformers, "PreTrainedTokenizerFast", lambda **_: by_class)
    with pytest.raises(SubjectError, match="reads 'Michael' in two ways") as caught:
        load_tokenizer(folder)
    assert "\n" not in str(caught.value) and "save it anew" in str(caught.value)


def test_special_tokens_that_the_file_does_not_have_are_not_added(tmp_path):
    """A class brings `<s>`; added behind the vocabulary, its id would be past the model's embeddings."""
    words = {"<unk>": 0, "</s>": 1} | {f"▁{word}": i for i, word in enumerate("Mary John to the".split(), 2)}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer = load_tokenizer(saved(tmp_path / "no bos", backend, tokenizer_class="LlamaTokenizer"))
    assert len(tokenizer) == len(words) and tokenizer.bos_token_id is None and tokenizer.eos_token_id == 1
    assert tokenizer(" Mary", add_special_tokens=False).input_ids == [2]


def test_padding_and_truncation_that_were_saved_do_nothing(tmp_path):
    plain = saved(tmp_path / "plain", small_backend(), tokenizer_class="GPT2Tokenizer")
    backend = small_backend()
    backend.enable_truncation(4)
    backend.enable_padding(length=32)
    padded = saved(tmp_path / "padded", backend, tokenizer_class="GPT2Tokenizer", model_max_length=4)
    prompts = Population().sample(6, seed=1)
    text = prompts[0].text
    tokenizer = load_tokenizer(padded)
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert ids == load_tokenizer(plain)(text, add_special_tokens=False).input_ids == read(padded.path, text) and len(ids) > 4
    assert tokenizer([text, "Mary"], add_special_tokens=False).input_ids[0] == ids


def test_bos_that_the_tokenizer_would_put_itself_is_not_put_twice(tmp_path):
    path = Path(shutil.copytree(EMBEDDED["mini"], tmp_path / "bos", ignore=shutil.ignore_patterns("*.safetensors")))
    backend = Tokenizer.from_file(str(path / "tokenizer.json"))
    end = "<|endoftext|>"
    backend.post_processor = processors.TemplateProcessing(f"{end} $A", special_tokens=[(end, backend.token_to_id(end))])
    backend.save(str(path / "tokenizer.json"))
    config = json.loads((path / "tokenizer_config.json").read_text()) | {"add_bos_token": True}
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer, plain = load_tokenizer(folder_of(path)), load_tokenizer(folder_of(EMBEDDED["mini"]))
    assert tokenizer("Mary").input_ids[0] == tokenizer.bos_token_id, "left to itself, it puts BOS"
    prompts = Population().sample(4, seed=0)
    for prepend_bos in (False, True):
        ours, theirs = (make_batches(one, prompts, prepend_bos=prepend_bos) for one in (tokenizer, plain))
        assert [batch.tokens.tolist() for batch in ours] == [batch.tokens.tolist() for batch in theirs]
        assert all((batch.tokens == tokenizer.bos_token_id).sum(1).max() == int(prepend_bos) for batch in ours)


def test_an_id_past_the_models_vocabulary_is_refused_though_tokens_are_few(tmp_path):
    words = {"<unk>": 0, "Mary": 1, "John": 70000}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = saved(tmp_path / "holes", backend, tokenizer_class="PreTrainedTokenizerFast")
    with pytest.raises(SubjectError, match=r"'John' with the id 70000, and .* a vocabulary of 60000"):
        load_tokenizer(folder)
    assert len(load_tokenizer(folder_of(folder.path, vocab_size=70001))) == 3


def test_gpt2s_digits_are_split_where_the_file_does(tmp_path, backend):
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), backend.pre_tokenizer])
    tokenizer = load_tokenizer(saved(tmp_path / "digits", backend, tokenizer_class="GPT2Tokenizer"))
    assert tokenizer.tokenize(" 1732") == ["Ġ", "1", "7", "3", "2"] and tokenizer.bos_token == "<|endoftext|>"


def test_gpt2s_tokenizer_is_left_as_transformers_loads_it(tmp_path, backend):
    """By its files as the hub has them, vocab.json, merges.txt and tokenizer.json."""
    tokenizer = load_tokenizer(saved(tmp_path / "same", backend, tokenizer_class="GPT2Tokenizer"))
    assert type(tokenizer).__name__ == "GPT2Tokenizer" and len(years_for(tokenizer).years) > 100
