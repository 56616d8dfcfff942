"""Recall of facts and the logit lens: which facts are asked, and Hugging Face's own head on its own hidden states."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel

from circuit_claims.discovery.chapters import facts as chapter
from circuit_claims.discovery.survey import Survey
from circuit_claims.measure.store import SessionStore
from circuit_claims.models.folder import EMBEDDED
from circuit_claims.prompts.facts import RELATIONS, FactList, half_of
from circuit_claims.prompts.published_facts import EIFFEL_TOWER, OXYGEN
from circuit_claims.subjects.subject import Settings, Subject, prepare
from circuit_claims.tasks.facts.task import FEWEST, Facts, KnowsTooLittle
from circuit_claims.tasks.operations.causal_tracing import METRICS
from circuit_claims.untested import Untested
from tests.support.fact_tasks import SOME, N, task
from tests.support.other_architectures import load, only_hooks, save_as_opt, save_tiny_decoder

# The logit lens.


@pytest.mark.parametrize("bos", [False, True], ids=["no BOS", "BOS"])
def test_the_lens_is_the_models_own_head_on_its_own_hidden_states(mini, bos):
    facts = task(mini, bos=bos)
    prompts = facts.prompts(N)
    read = facts._lens(prompts)
    theirs = GPT2LMHeadModel.from_pretrained(EMBEDDED["mini"]).eval()
    for i, prompt in enumerate(prompts):
        ids = mini.tokenizer(prompt.text).input_ids
        tokens = torch.tensor([([mini.tokenizer.bos_token_id] if bos else []) + ids])
        right, other = (mini.tokenizer(" " + answer).input_ids[0] for answer in prompt.answers)
        with torch.no_grad():
            *streams, final = theirs(tokens, output_hidden_states=True).hidden_states
            logits = [theirs.lm_head(theirs.transformer.ln_f(stream))[0, -1] for stream in streams]
            logits.append(theirs.lm_head(final)[0, -1])  # the last one is normed already
        last = int(logits[-1].argmax())
        assert len(logits) == 5 == read.shape[1]
        for depth, here in enumerate(logits):
            probabilities = here.softmax(-1)
            assert read[i, depth, 0] == pytest.approx(float(probabilities[right]), abs=1e-4)
            assert read[i, depth, 1] == pytest.approx(float(probabilities[other]), abs=1e-4)
            assert read[i, depth, 2:].tolist() == [int(here.argmax()) == right, int(here.argmax()) == last]


def read_of(*first_on_top: list[bool], final: list[bool] | None = None) -> np.ndarray:
    """What the lens might read: whether the answer is on top after the embedding and each layer, of each prompt."""
    top = np.array(first_on_top, dtype=float)
    return np.stack([top * 0.6, 1 - top, top, top if final is None else np.tile(np.array(final, float), (len(top), 1))], axis=2)


def test_layers_that_the_lens_tells_are_counted_from_what_it_reads(mini, monkeypatch):
    facts = task(mini).published([OXYGEN], prepend_bos=True)

    def measured(which: str, *top: bool, final: list[bool] | None = None) -> float:
        fresh = replace(facts, store=SessionStore())
        monkeypatch.setattr(Facts, "_lens", lambda self, prompts: read_of(list(top), final=final))
        return getattr(fresh, which)().take(1).estimate

    T, F = True, False
    assert measured("crossover_layer", F, F, T, F, T) == 1
    assert measured("crossover_layer", T, F, F, F, T) == 3, "what the embeddings would answer does not count"
    assert measured("crossover_layer", T, F, F, F, F) == 4, "as many as there are layers, where it never is"
    assert measured("crossover_depth", F, F, T, F, T) == pytest.approx(1.5 / 4)
    assert measured("comes_up_late", F, F, T, F, T) == 0
    assert measured("comes_up_late", F, F, F, T, T) == 1
    assert measured("comes_up_late", F, F, F, F, F) == 1
    assert measured("layers_on_top", T, F, T, F, T) == 2
    assert measured("layers_above_the_other", T, F, T, F, T) == 2
    assert measured("layers_committed", F, F, F, F, T) == 1
    assert measured("layers_committed", F, T, F, T, T) == 2
    assert measured("layers_committed", F, T, T, T, T) == 4
    assert measured("layers_committed", F, F, F, F, F, final=[F, F, F, T, T]) == 2, "whatever the final answer is"


def test_the_curves_are_the_means_over_prompts_with_their_intervals(mini):
    facts = task(mini)
    drawn = facts.layers_committed().take(40).drawn
    read = facts._in_chunks(("logit lens",), facts._lens, facts.prompts(40))
    assert drawn["x"] == ["embedding", "L0", "L1", "L2", "L3"]
    for column, curve in enumerate(drawn["curves"]):
        assert curve["values"] == pytest.approx(read[:, :, column].mean(0).tolist())
        assert all(low <= value <= high for low, value, high in zip(curve["low"], curve["values"], curve["high"], strict=True))
    one = facts.published([OXYGEN], prepend_bos=True).crossover_layer().take(1).drawn
    assert [curve["low"] for curve in one["curves"]] == [None, None]
    assert all(isinstance(value, float) for curve in one["curves"] for value in curve["values"])


def test_engine_bridge_and_hugging_face_give_one_distribution_of_the_next_token(mini):
    """KL about 0 between backends, as S2 asks for."""
    facts = task(mini)
    theirs = GPT2LMHeadModel.from_pretrained(EMBEDDED["mini"]).eval()
    for text in [OXYGEN[0], *(prompt.text for prompt in facts.prompts(N))]:
        tokens = torch.tensor([mini.tokenizer(text).input_ids])
        with torch.no_grad():
            ours = mini.last_logits(tokens)[0].double().log_softmax(-1)
            others = [mini.bridge(tokens, prepend_bos=False)[0, -1], theirs(tokens).logits[0, -1]]
        for other in others:
            other = other.double().log_softmax(-1)
            assert float((ours.exp() * (ours - other)).sum().abs()) < 1e-6


# Which facts are asked.


def test_partners_stand_in_the_same_place_with_as_many_tokens_and_another_answer(mini):
    facts = task(mini, FactList(known=False))
    asked, encode = facts.prompts(999), lambda text: mini.tokenizer(text).input_ids
    assert len(asked) == facts.limit > 100
    assert {p.relation for p in asked} == {"capital", "country", "material"}, "what mini has words for"
    for prompt in asked:
        clean, other = encode(prompt.text), encode(prompt.changed("interchange").text)
        assert len(clean) == len(other) and prompt.answers[0] != prompt.answers[1]
        assert prompt.answers[1] == RELATIONS[prompt.relation].answers[prompt.partner]
        assert mini.tokenizer.unk_token_id not in clean + other
        assert half_of(prompt.subject) == half_of(prompt.partner) == "verdict"
        differ = [a != b for a, b in zip(clean, other, strict=True)]
        ((_, begin, end),) = prompt.phrases
        inside = len(encode(prompt.text[:begin])), len(encode(prompt.text[:end]))
        assert any(differ) and not any(differ[: inside[0]] + differ[inside[1] :])


def test_the_halves_share_no_subject(mini):
    halves = [
        {p.subject for p in task(mini, FactList(half=half, known=False)).prompts(999)} for half in ("discovery", "verdict")
    ]
    assert halves[0] and halves[1] and not halves[0] & halves[1]


def test_known_are_those_with_the_right_answer_on_top(mini):
    asked, known = task(mini).prompts(999), task(mini, replace(SOME, known=True)).prompts(999)
    right = {
        prompt.text
        for prompt in asked
        if mini.top_tokens(prompt.text, prepend_bos=False, k=1)[0][0].strip() == prompt.answers[0]
    }
    assert {prompt.text for prompt in known} == right
    assert 0 < len(known) < len(asked)
    assert task(mini).answers_right().take(999).estimate == pytest.approx(len(known) / len(asked))
    assert task(mini, replace(SOME, known=True)).answers_right().take(999).estimate == 1


def test_only_subjects_of_several_tokens_are_asked_where_these_are_wanted(mini):
    texts = [prompt.subject for prompt in task(mini).on(several=True).prompts(99)]
    assert texts and all(text.startswith(("a ", "an ")) for text in texts)


def test_a_subject_that_knows_nothing_is_told_so_and_one_that_knows_little_is_not_tested(mini, random_subject, monkeypatch):
    facts = task(random_subject, FactList())
    with pytest.raises(KnowsTooLittle, match=r"answers [01] right: how it recalls facts presupposes"):
        facts.trace()
    assert isinstance(KnowsTooLittle(), AssertionError), "which refutes a claim"
    few = task(mini, FactList())
    right = np.zeros(few.asked().limit or 0)
    right[: FEWEST - 1] = 1
    monkeypatch.setattr(Facts, "_right", lambda self, batch: right[list(batch.index)])
    with pytest.raises(KnowsTooLittle):
        few.trace()
    monkeypatch.setattr("circuit_claims.tasks.facts.task.GUESSING", 0.01)
    with pytest.raises(Untested, match=f"answers {FEWEST - 1} right, and {FEWEST} are needed"):
        few.trace()


def test_what_a_tokenizer_cannot_carry_is_untested(mini):
    facts = task(mini, FactList())
    with pytest.raises(Untested, match="does not know all words"):
        facts.published([EIFFEL_TOWER], prepend_bos=True)
    with pytest.raises(Untested, match="can carry 0 of the prompts about facts that the model knows of the relation maker"):
        facts.on(relations=["maker"]).trace()
    with pytest.raises(ValueError, match="unknown relation"):
        facts.on(relations=["taste"])
    with pytest.raises(ValueError, match="published prompts do not say"):
        facts.published([OXYGEN], prepend_bos=True).trace().take(1)
    with pytest.raises(ValueError, match="unknown corruption"):
        facts.total_effect("smoke").take(1)  # pyright: ignore[reportArgumentType]  # wrong on purpose


def test_gpt2_can_be_asked_many_facts_of_every_relation(gpt2_folder):
    from types import SimpleNamespace

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gpt2_folder)
    subject: Any = SimpleNamespace(tokenizer=tokenizer, name="gpt2", device="cpu")
    asked = task(subject, FactList(known=False)).prompts(9999)
    by_relation = {name: sum(prompt.relation == name for prompt in asked) for name in RELATIONS}
    assert min(by_relation.values()) >= 30 and sum(by_relation.values()) > 400
    assert len({(prompt.relation, prompt.subject) for prompt in asked}) > 120
    lengths = [len(tokenizer(" " + prompt.subject).input_ids) for prompt in asked]
    assert sum(length > 1 for length in lengths) > 60 and max(lengths) >= 3
    texts = [prompt.text for prompt in asked]
    assert len(set(texts)) == len(texts)


# Other architectures.


def test_mini_written_as_an_OPT_is_traced_as_mini_is(mini, tmp_path):
    folder = save_as_opt(EMBEDDED["mini"], tmp_path / "mini-as-opt")
    other = Subject(prepare(Settings(name=str(folder), card="mini")))
    assert type(other.transformer) is not type(mini.transformer)
    for corruption in METRICS:
        ours, theirs = (task(s).trace(corruption=corruption).take(2) for s in (mini, other))
        assert theirs.values == pytest.approx(ours.values, abs=2e-3)
        assert np.abs(ours.values).max() > 0.1
    ours, theirs = (task(s).trace_parts(corruption="noise").take(2).values for s in (mini, other))
    assert theirs == pytest.approx(ours, abs=2e-3)
    assert task(other)._lens(task(other).prompts(2)) == pytest.approx(task(mini)._lens(task(mini).prompts(2)), abs=1e-3)


def test_noise_is_in_units_of_what_tokens_put_into_the_stream(tmp_path):
    """Where a model scales its embeddings, the spread is that of the scaled ones."""
    subject = load(save_tiny_decoder(tmp_path / "model", "Gemma2"), "raw")
    tokens = torch.arange(20, 40)
    scaled = subject.transformer.token_embeddings(tokens)
    assert (scaled - subject.transformer.W_E[tokens] * scaled.shape[1] ** 0.5).abs().max() < 1e-5
    assert np.isfinite(task(subject).trace(corruption="noise").take(2).values).all()


def test_noise_on_scaled_embeddings_is_untested_through_hooks(tmp_path, monkeypatch):
    only_hooks(monkeypatch)
    subject = load(save_tiny_decoder(tmp_path / "model", "Gemma2"), "raw")
    with pytest.raises(Untested, match="scales its embeddings"):
        task(subject).trace(corruption="noise").take(2)
    assert np.isfinite(task(subject).trace(corruption="interchange").take(2).values).all()


# Discovery.


def test_discovery_finds_the_values_on_the_other_half_and_leaves_them_out_of_noise(mini, random_subject):
    found = chapter.find(Survey.of(mini, n=960, seed=0, prepend_bos=False), mini.card).findings
    (findings,) = found.values()
    for key, value in findings.values.items():
        assert (value.value, value.within) == pytest.approx(
            (mini.card[key].value, mini.card[key].high - mini.card[key].value), abs=1e-6
        )
    assert findings.values.keys() == {"facts_answered", "layers_committed", "capital_handover_layer"}
    (nothing,) = chapter.find(Survey.of(random_subject, n=60, seed=0, prepend_bos=False), mini.card).findings.values()
    assert nothing.values == {} and nothing.left_out.keys() == findings.values.keys()
    assert all("presupposes" in why for why in nothing.left_out.values())


def test_a_city_is_in_mind_where_it_is_among_the_likeliest_tokens_and_what_presupposes_it_fails_where_it_is_not(mini):
    """Of the Eiffel Tower nothing is asked of a model that thinks of neither city."""
    facts = task(mini)
    cities = facts.published([("The capital of France is", "Paris", "London")], prepend_bos=True)
    elsewhere = facts.published(
        [("When Mary and John went to the store, John gave a drink to", "Paris", "London")], prepend_bos=True
    )
    for asked, expected in ((cities, 1.0), (elsewhere, 0.0)):
        tokens = asked.batches(asked.prompts(1))[0].tokens
        best = facts.subject.last_logits(tokens)[0].argsort(descending=True)[:10].tolist()
        words = [facts.subject.tokenizer.decode([token]).strip() for token in best]
        assert ("Paris" in words or "London" in words) == bool(expected)
        assert asked.ranked_among(10).take(1).estimate == expected
        measured = asked.layers_on_top().presupposing(asked.ranked_among(10)).take(1)
        (whole,) = measured.presupposed
        assert whole.estimate == expected
