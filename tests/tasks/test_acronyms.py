"""The task of acronyms: its prompts, its measures against plain ones, and the claims on noise with GPT-2's own tokenizer."""

from pathlib import Path

import numpy as np
import pytest
import torch

from circuit_claims.heads import Head
from circuit_claims.prompts.acronyms import LAYOUT, LETTERS, WORDS, AcronymPrompt, Acronyms, acronyms_for
from circuit_claims.prompts.batch import TokenizationError, bare_token
from circuit_claims.subjects.subject import Settings, Subject, prepare
from circuit_claims.tasks.acronyms.task import AcronymTask
from circuit_claims.untested import Untested
from tests.support.claim_runs import run_claims
from tests.support.gpt2_tokens import save_narrow_gpt2

PROMPT = AcronymPrompt(("Wound", "Kettle", "Mixture"), "Mixture", "Zebra")


@pytest.fixture(scope="module")
def folder(gpt2_folder, tmp_path_factory) -> Path:
    return save_narrow_gpt2(tmp_path_factory.mktemp("narrow") / "model", gpt2_folder)


@pytest.fixture(scope="module")
def acronyms(folder) -> AcronymTask:
    subject = Subject(prepare(Settings(name=str(folder), card="gpt2-small")))
    return AcronymTask(subject=subject, seed=0, chunk=4, population=acronyms_for(subject.tokenizer), prepend_bos=True)


# Prompts


def test_a_prompt_is_spelt_and_knows_where_its_letters_stand():
    assert str(PROMPT) == "The Wound Kettle Mixture (WK" and PROMPT.answers == ("M", "Z")
    assert {role: PROMPT.text[begin:end] for role, begin, end in PROMPT.spans} == {
        "The": "The", "C1": "W", "T1": "ound", "C2": "K", "T2": "ettle", "C3": "M", "T3": "ixture", "(": "(", "A1": "W"
    }  # fmt: skip
    corrupted = PROMPT.changed("third word")
    assert str(corrupted) == "The Wound Kettle Zebra (WK" and corrupted.third == "Mixture"
    with pytest.raises(ValueError, match="the one there is"):
        PROMPT.changed("ABC")


def test_prompts_differ_in_all_three_letters_and_come_by_seed():
    population = Acronyms(WORDS, ("WK", "KZ"))
    stream, again = population.stream(0), population.stream(0)
    drawn = [next(stream) for _ in range(200)]
    assert drawn == [next(again) for _ in range(200)] and len({str(prompt) for prompt in drawn}) == 200
    assert all(len({word[0] for word in (*prompt.words, prompt.fresh)}) == 4 for prompt in drawn)
    assert {prompt.words[0][0] + prompt.words[1][0] for prompt in drawn} == {"WK", "KZ"}
    with pytest.raises(ValueError, match="holds no more than"):
        list(Acronyms(("Wound", "Kettle", "Zebra", "Yarn"), ("WK",)).stream(0))


def test_for_minis_tokenizer_they_are_untested_with_the_reason(mini):
    with pytest.raises(Untested, match="spelt letter by letter"):
        acronyms_for(mini.tokenizer)


def test_a_token_without_a_space_is_one_token_or_an_error(mini):
    assert bare_token(mini.tokenizer, "07") == mini.tokenizer.get_vocab()["07"]
    for wrong in ("Xerxes", "1732"):
        with pytest.raises(TokenizationError, match="is not one token"):
            bare_token(mini.tokenizer, wrong)


def test_gpt2s_tokenizer_lays_all_prompts_out_alike(acronyms):
    population = acronyms.population
    assert population.words == WORDS and len(population.pairs) > 50
    tokenizer = acronyms.subject.tokenizer
    for change in ("", "third word"):
        prompts = [prompt.changed(change) if change else prompt for prompt in acronyms.prompts(200)]
        (batch,) = acronyms.batches(prompts)
        assert batch.tokens.shape[1] == 1 + len(LAYOUT) and (batch.tokens[:, 0] == tokenizer.bos_token_id).all()
        for place, role in enumerate(LAYOUT, start=1):
            assert (batch.positions[role] == place).all(), role
        first = prompts[0]
        pieces = tokenizer.convert_ids_to_tokens(batch.tokens[0].tolist())
        words = [piece for word in first.words for piece in (f"Ġ{word[0]}", word[1:])]
        assert pieces == ["<|endoftext|>", "The", *words, "Ġ(", first.words[0][0], first.words[1][0]]


# Measures


def by_hand(acronyms, logits, prompt) -> float:
    of = {letter: float(logits[bare_token(acronyms.subject.tokenizer, letter)]) for letter in LETTERS}
    return of.pop(prompt.third[0]) - max(of.values())


def test_the_logit_difference_is_the_plain_one(acronyms):
    found = acronyms.logit_difference().take(5).values
    effect = acronyms.baseline("third word").take(5).values
    for i, prompt in enumerate(acronyms.prompts(5)):
        plain = []
        for text in (prompt.text, prompt.changed("third word").text):
            ids = torch.tensor([[50256, *acronyms.subject.tokenizer(text).input_ids]])
            with torch.inference_mode():
                plain.append(by_hand(acronyms, acronyms.subject.bridge(ids, prepend_bos=False)[0, -1], prompt))
        assert found[i] == pytest.approx(plain[0], abs=1e-3) and effect[i] == pytest.approx(plain[0] - plain[1], abs=1e-3)


def test_a_cell_of_the_sweep_is_one_noised_head(acronyms):
    found = acronyms.noise_sweep().take(2)
    whole, bridge = acronyms.logit_difference().take(2).values, acronyms.subject.bridge
    for i, prompt in enumerate(acronyms.prompts(2)):
        (clean,), (other,) = acronyms.batches([prompt]), acronyms.batches([prompt.changed("third word")])
        with torch.inference_mode():
            cache = bridge.run_with_cache(other.tokens, prepend_bos=False)[1]
        for layer, head in ((11, 4), (8, 11), (0, 2)):
            name = f"blocks.{layer}.attn.hook_z"

            def noised(z, hook, name=name, head=head, cache=cache):
                z = z.clone()
                z[0, -1, head] = cache[name][0, -1, head]
                return z

            with torch.inference_mode():
                logits = bridge.run_with_hooks(clean.tokens, fwd_hooks=[(name, noised)], prepend_bos=False)[0, -1]
            assert found.values[i, layer, head] == pytest.approx(whole[i] - by_hand(acronyms, logits, prompt), abs=1e-3)


def test_attention_is_the_models_own(acronyms):
    head, prompts = Head(2, 2), acronyms.prompts(6)
    (batch,) = acronyms.batches(prompts)
    with torch.inference_mode():
        pattern = acronyms.subject.bridge.run_with_cache(batch.tokens, prepend_bos=False)[1]["blocks.2.attn.hook_pattern"][:, 2]
    pattern = pattern[np.argsort(batch.index)].double().numpy()
    to_letter = acronyms.attention_to_third_word(head).take(6)
    others = np.delete(pattern[:, 10], [0, 6], axis=1).max(1)
    assert np.allclose(to_letter.values, pattern[:, 10, 6] - others, atol=1e-5)
    drawn = to_letter.drawn
    assert drawn["tokens"] == ["BOS", *LAYOUT] and drawn["query"] == 10
    assert np.allclose(drawn["values"], pattern[:, 10].mean(0), atol=1e-5)
    one_back = np.mean([pattern[:, t, t - 1] - np.delete(pattern[:, t], [0, t - 1], axis=1).max(1) for t in (3, 5, 7)], axis=0)
    assert np.allclose(acronyms.attention_one_back([head]).take(6).values, one_back, atol=1e-5)


def test_on_logits_that_are_known_the_difference_is_what_it_must_be(acronyms, monkeypatch):
    """The right letter at 3, another at 1, all other letters at 0, and what is no letter at 50."""
    ids = {letter: bare_token(acronyms.subject.tokenizer, letter) for letter in LETTERS}
    (batch,) = acronyms.batches(acronyms.prompts(4))

    def last_logits(tokens):
        logits = torch.full((len(tokens), 50257), 50.0)
        logits[:, list(ids.values())] = 0.0
        for row, prompt in enumerate(batch.prompts):
            logits[row, ids[prompt.fresh[0]]] = 1.0
            logits[row, ids[prompt.third[0]]] = 3.0
        return logits

    monkeypatch.setattr(acronyms.subject, "last_logits", last_logits)
    assert acronyms.value_of(batch).tolist() == [2.0] * 4


# The claims


def test_every_claim_runs_to_the_end_with_gpt2s_tokenizer_and_none_holds_of_noise(folder, tmp_path, cache):
    """Those on year spans, and on the texts of the demos, too: a model that has learnt nothing."""
    files = ["claims/acronyms", "claims/greater_than"]
    files += ["claims/induction/test_published_texts.py"]
    options = ["--subject", str(folder), "--card", "gpt2-small", "--prompts", "30", "--max-prompts", "30"]
    run = run_claims(tmp_path / "report", *files, *options)
    assert run.status == 1
    rows = run.rows
    verdicts = {row["claim_id"]: row["verdict"] for row in rows}
    assert len([claim for claim in verdicts if claim.startswith(("acronyms/", "greater_than/"))]) == 28
    on_texts = {claim: verdict for claim, verdict in verdicts.items() if "published_texts" in claim}
    assert len(on_texts) == 8 and set(on_texts.values()) == {"refuted"}, on_texts
    assert set(verdicts.values()) <= {"refuted", "inconclusive"}, verdicts
    assert all(row["prepend_bos"] for row in rows)
