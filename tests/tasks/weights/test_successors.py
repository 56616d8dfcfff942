"""Next scores, days and kept circuits against plain computations, on a head that is written to succeed, and on noise."""

import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from circuit_claims.engine.decoder.transformer import Transformer
from circuit_claims.heads import Head
from circuit_claims.prompts.ioi import half_of
from circuit_claims.prompts.sequences import (
    DAYS,
    MONTHS,
    NUMBER_WORDS,
    NUMERALS,
    ORDINALS,
    SHOWN,
    TASKS,
    THINGS,
    Counting,
)
from circuit_claims.prompts.words import NAMES
from circuit_claims.subjects.subject import Settings, Subject, prepare
from circuit_claims.tasks.successors.counting import CountingTask
from circuit_claims.tasks.successors.next_scores import Successors
from circuit_claims.untested import Untested
from circuit_claims.verdicts.budget import Budget
from circuit_claims.verdicts.expect import Expect, Refuted
from tests.support.paper import Paper
from tests.support.tiny_models import save_tiny_card

LAYERS, HEADS, WIDTH = 2, 4, 32
#: Everything that prompts and answers may say, one token a word, whatever stands before it.
WORDS = tuple(
    dict.fromkeys(
        [
            *NUMERALS,
            *NUMBER_WORDS,
            *MONTHS,
            *ORDINALS,
            *DAYS,
            *THINGS,
            *"was born done lost in . , If today is tomorrow".split(),
            *NAMES[:20],
        ]
    )
)


def save_counting_model(folder: Path, change=None) -> Path:
    """A random model with a tokenizer that knows the sequences; `change` may rewrite its weights."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    ids = {word: index for index, word in enumerate(["<|endoftext|>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    end = "<|endoftext|>"
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=end, eos_token=end, unk_token="<unk>").save_pretrained(folder)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(ids), n_positions=64, n_layer=LAYERS, n_head=HEADS, n_embd=WIDTH)).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(
                noise / weight.shape[-1] ** 0.5 if weight.ndim == 2 else 0.2 * noise + (".ln_" in name and "weight" in name)
            )
        if change is not None:
            change(model, ids)
    model.save_pretrained(folder)
    return folder


def subject_of(folder: Path, mode: str = "processed") -> Subject:
    card = save_tiny_card(folder.parent / f"{folder.name}.toml", n_layer=LAYERS, n_head=HEADS)
    return Subject(prepare(Settings(name=str(folder), card=str(card), mode=mode)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_counting_model(tmp_path_factory.mktemp("counting") / "counting")


@pytest.fixture(scope="module", params=["processed", "raw"])
def subject(request, folder) -> Subject:
    return subject_of(folder, request.param)


@pytest.fixture(scope="module")
def raw(folder) -> Subject:
    """For the twins: raw weights are what the recipe says, layer norms, biases and all."""
    return subject_of(folder, "raw")


@torch.inference_mode()
def plain_hits(raw: Subject, head: Head, name: str, asked: str, step: int) -> list[float]:
    """The authors' get_next_scores and get_copy_scores, a member at a time, through the raw bridge's modules: some prompts."""
    bridge, tokenizer, task, found = raw.bridge, raw.tokenizer, TASKS[name], []
    for shown in task.shown()[::step]:
        tokens = torch.tensor([tokenizer(task.text(shown), add_special_tokens=False).input_ids])
        after_block_0 = bridge.run_with_cache(tokens, prepend_bos=False)[1]["blocks.1.hook_resid_pre"][0]
        right = 0
        for position, member in enumerate(shown):
            normed = bridge.blocks[head.layer].ln1(after_block_0[None, position : position + 1])[0, 0]
            value = normed @ bridge.W_V[head.layer][head.head] + bridge.b_V[head.layer][head.head]
            logits = bridge.unembed(bridge.ln_final((value @ bridge.W_O[head.layer][head.head])[None, None]))[0, 0]
            best = [tokenizer.decode([token]).strip() for token in logits.topk(5).indices]
            right += (task.nexts[member] if asked == "next" else task.members[member]) in best
        found.append(right / SHOWN)
    return found


@pytest.mark.parametrize("asked", ["next", "copy"])
@pytest.mark.parametrize("name", TASKS)
def test_scores_are_the_plain_ones_in_either_mode(subject, raw, name, asked):
    """Processed weights have no biases of values, and yet the scores have them."""
    grid = Successors(subject, prepend_bos=False).scores(name, asked).take(1)
    assert grid.exact and grid.n == TASKS[name].prompts
    step = 16 if name == "numerals" else 2
    for head in (Head(0, 1), Head(1, 0), Head(1, 3)):
        plain = plain_hits(raw, head, name, asked, step)
        assert grid.values[::step, head.layer, head.head] == pytest.approx(plain), str(head)
    assert grid.values.max() > 0, "some hits there are by chance"


def test_value_biases_matter_here(subject, monkeypatch):
    """Otherwise the test above could not tell whether they are in the scores."""
    successors = Successors(subject, prepend_bos=False)
    with_them = successors.scores("numerals").take(1).values
    without = Successors(subject, prepend_bos=False)
    monkeypatch.setattr(Successors, "_read_value_biases", lambda self: torch.zeros(LAYERS, HEADS, WIDTH // HEADS))
    assert (without.scores("numerals").take(1).values != with_them).any()


def succeed(model, ids) -> None:
    """Head L1H2 writes what comes after the token that it reads, in one-hot codes of as many dimensions as it has."""
    members = [NUMERALS[:8], NUMBER_WORDS[:8]]  # a head of eight dimensions can tell eight members
    size = WIDTH // HEADS
    block, first = model.transformer.h[1], model.transformer.h[0]
    for written in (first.attn.c_proj, first.mlp.c_proj, block.attn.c_attn, model.transformer.ln_f, block.ln_1):
        written.bias.zero_()
    for written in (first.attn.c_proj, first.mlp.c_proj):
        written.weight.zero_()
    for norm in (block.ln_1, model.transformer.ln_f):
        norm.weight.fill_(1)
    model.transformer.wpe.weight.zero_()
    embedding = model.transformer.wte.weight
    embedding.mul_(0.01)
    for sequence in members:
        for place, member in enumerate(sequence):
            embedding[ids[member]] = 0
            embedding[ids[member], place], embedding[ids[member], size + place] = 3.0, -3.0
    values = slice(2 * WIDTH + 2 * size, 2 * WIDTH + 3 * size)
    block.attn.c_attn.weight[:, values] = torch.cat([torch.eye(size), torch.zeros(WIDTH - size, size)])
    shift = torch.zeros(size, WIDTH)
    for place in range(size):
        shift[place, (place + 1) % size], shift[place, size + (place + 1) % size] = 1.0, -1.0
    block.attn.c_proj.weight[2 * size : 3 * size] = shift


def test_a_head_that_is_written_to_succeed_succeeds_and_does_not_copy(tmp_path):
    successors = Successors(subject_of(save_counting_model(tmp_path / "succeeds", succeed)), prepend_bos=False)
    head = Head(1, 2)
    following = successors.scores("numerals").take(1).values[:, head.layer, head.head]
    copying = successors.scores("numerals", "copy").take(1).values[:, head.layer, head.head]
    assert (following[:4] == 1.0).all(), "1 to 7 lead to 2 to 8"
    assert (copying[:4] == 0.0).all()
    paper = Paper()
    expect = Expect(paper, Budget(60, 240), seed=0)
    expect(successors.lead_over_copying(head, "numerals"), "made up").above(0)
    assert paper.rows[-1].prepend_bos is False and paper.rows[-1].ci_low == paper.rows[-1].observed
    expect(successors.scores("number words"), "made up").top(1).contains([head])


def test_statistics_of_hits(subject):
    successors = Successors(subject, prepend_bos=False)
    grid = successors.scores("numerals").take(1)
    head = Head(*np.unravel_index(grid.estimate.argmax(), grid.estimate.shape))
    hits = successors.hits(head, "numerals").take(1)
    assert hits.statistic(hits.grid.estimate) == pytest.approx(round(4 * 97 * grid.estimate[head]))
    share = successors.share_of_all_hits(head, "numerals").take(1)
    assert share.statistic(share.grid.estimate) == pytest.approx(grid.estimate[head] / grid.estimate.sum())
    assert share.statistic(np.zeros((1, LAYERS, HEADS))) == 0.0, "of no hits, none are the head's"


def test_words_of_several_tokens_are_never_hit_and_members_of_several_are_refused(subject):
    successors = Successors(subject, prepend_bos=False)
    assert successors._forms("January") and successors._forms("three four") == [] == successors._forms("thirteenth")
    broken = replace(TASKS["numerals"], members=("thirteenth",), prompts=0)
    with pytest.raises(ValueError, match="thirteenth"):
        successors._tokens(broken)


def test_mini_has_no_sequences(mini):
    successors = Successors(mini, prepend_bos=False)
    for name in TASKS:
        with pytest.raises(Untested, match="tokenizer"):
            successors.scores(name).take(1)
    with pytest.raises(Untested, match="days"):
        successors.days().take(1)
    with pytest.raises(Untested, match="count"):
        CountingTask.of(mini, seed=0, chunk=20, prepend_bos=False)


@torch.inference_mode()
@pytest.mark.parametrize("bos", [False, True])
def test_days_are_the_plain_ones(subject, bos):
    """One head's output at END along the days' unembeddings, one prompt at a time, through the bridge's hooks."""
    bridge, tokenizer = subject.bridge, subject.tokenizer
    found = Successors(subject, prepend_bos=bos).days().take(1)
    ids = [tokenizer(day, add_special_tokens=False).input_ids[0] for day in DAYS]
    gain = getattr(bridge.ln_final, "weight", None)
    gain = torch.ones(WIDTH) if gain is None else gain
    for i, day in enumerate(DAYS):
        start = [tokenizer.bos_token_id] if bos else []
        tokens = torch.tensor([start + tokenizer(f"If today is {day}, tomorrow is", add_special_tokens=False).input_ids])
        cache = bridge.run_with_cache(tokens, prepend_bos=False)[1]
        for layer in range(LAYERS):
            for head in range(HEADS):
                written = cache[f"blocks.{layer}.attn.hook_z"][0, -1, head] @ bridge.W_O[layer][head]
                logits = ((written - written.mean()) * gain) @ bridge.W_U[:, ids]
                assert found.values[i, layer, head] == float(int(logits.argmax()) == (i + 1) % 7)


def test_the_best_of_all_heads_but_some(subject):
    successors = Successors(subject, prepend_bos=False)
    days = successors.days().take(1).estimate
    best = Head(*np.unravel_index(days.argmax(), days.shape))
    right, others = successors.days_right(best).take(1), successors.most_days_right([best]).take(1)
    assert right.statistic(right.grid.estimate) == pytest.approx(7 * days.max())
    assert others.statistic(others.grid.estimate) == pytest.approx(7 * np.delete(days, days.argmax()).max())


def story_of(subject: Subject, chunk: int = 7) -> CountingTask:
    return CountingTask.of(subject, seed=0, chunk=chunk, prepend_bos=False)


def test_prompts_count_and_their_corruption_does_not(subject):
    task = story_of(subject)
    prompts = task.prompts(48)
    assert len({str(prompt) for prompt in prompts}) == 48
    assert {prompt.template for prompt in prompts} == set(range(5, 13)), "from 1 to 8 on, each as often"
    for prompt in prompts:
        start = prompt.numerals[0]
        assert prompt.numerals == tuple(range(start, start + 4)) and prompt.answers == (str(start + 4), str(start + 3))
        other = prompt.changed("random numerals")
        assert other.answers == prompt.answers and other.fillers == prompt.fillers and other.template == prompt.template
        assert other.numerals[3] - 1 != other.numerals[2] and max(other.numerals) <= 12
        assert half_of(*prompt.fillers[:2]) == "verdict"
    with pytest.raises(ValueError, match="unknown change"):
        prompts[0].changed("ABC")


def test_halves_share_no_prompt(subject):
    counting: Any = story_of(subject).population
    names, things = counting.names, counting.things
    drawn = {half: {str(p) for p in islice(Counting(names, things, half).stream(0), 200)} for half in ("discovery", "verdict")}
    assert not drawn["discovery"] & drawn["verdict"]
    with pytest.raises(ValueError, match="fewer than 8"):
        next(Counting(names[:7], things).stream(0))


@torch.inference_mode()
def plain_kept(task: CountingTask, heads: set[Head], mlps: set[int]) -> list[float]:
    """The circuit alone, one prompt at a time, by hooks that put means over sentences with random numerals everywhere else."""
    bridge, tokenizer, found = task.subject.bridge, task.subject.tokenizer, []
    counting: Any = task.population
    means: dict[int, dict[str, torch.Tensor]] = {}
    for prompt in task.prompts(6):
        if prompt.sentence not in means:
            others = replace(counting, half=None, sentences=(prompt.sentence,)).stream(task.seed + 1)
            texts = [str(other.changed("random numerals")) for other in islice(others, CountingTask.reference_size)]
            ids = torch.tensor(tokenizer(texts, add_special_tokens=False).input_ids)
            cache = bridge.run_with_cache(ids, prepend_bos=False)[1]
            sites = [f"blocks.{layer}.{site}" for layer in range(LAYERS) for site in ("attn.hook_z", "hook_mlp_out")]
            means[prompt.sentence] = {site: cache[site].mean(0) for site in sites}

        def replacing(site: str, mean: torch.Tensor):
            layer = int(site.split(".")[1])

            def hook(activation, hook):
                activation = activation.clone()
                if "mlp" in site:
                    return activation if layer in mlps else mean.expand_as(activation)
                for head in range(HEADS):
                    if Head(layer, head) not in heads:
                        activation[0, :, head] = mean[:, head]
                return activation

            return site, hook

        ids = torch.tensor([tokenizer(str(prompt), add_special_tokens=False).input_ids])
        logits = bridge.run_with_hooks(
            ids, fwd_hooks=[replacing(*item) for item in means[prompt.sentence].items()], prepend_bos=False
        )[0, -1]
        following, last = (tokenizer(answer, add_special_tokens=False).input_ids[0] for answer in prompt.answers)
        found.append(float(logits[following] - logits[last]))
    return found


@pytest.mark.parametrize(("heads", "mlps"), [({Head(0, 1), Head(1, 2)}, {1}), (set(), {0, 1}), ({Head(0, 3)}, set())])
def test_a_kept_circuit_is_the_plain_one(subject, heads, mlps):
    task = story_of(subject)
    found = task.circuit([(head, None) for head in heads], mlps=mlps, called="some").value().take(6).values
    assert found == pytest.approx(plain_kept(task, heads, mlps), abs=1e-4)


def test_everything_kept_is_the_model_and_nothing_kept_knows_no_numeral(subject):
    task = story_of(subject)
    every = [(Head(layer, head), None) for layer in range(LAYERS) for head in range(HEADS)]
    whole = task.baseline().take(12).values
    alone = task.circuit(every, mlps=range(LAYERS), called="all").value().take(12).values
    assert alone == pytest.approx(whole, abs=1e-4)
    nothing = task.circuit([], mlps=[], called="nothing").value().take(48)
    by_answer: dict[tuple, list[float]] = {}
    for prompt, value in zip(task.prompts(48), nothing.values, strict=True):
        by_answer.setdefault((prompt.sentence, prompt.answers), []).append(value)
    assert all(np.ptp(values) < 1e-4 for values in by_answer.values()), "END's own token and the means are all that is left"


def test_without_a_head_and_the_lead_of_circuits(subject):
    task = story_of(subject)
    circuit = task.circuit([(Head(0, 1), None), (Head(1, 2), None)], mlps=[0], called="pair")
    less = circuit.without([(Head(1, 2), None)])
    assert less.removed == {(Head(1, 2), None)} and "without L1H2" in less.name
    lead, whole = circuit.lead_over(less).take(12), task.baseline().take(12).values
    expected = circuit.value().take(12).values - less.value().take(12).values
    assert lead.estimate == pytest.approx(expected.mean() / whole.mean())


def test_noise_does_not_count(subject):
    """What is kept of a logit difference presupposes one."""
    task, expect = (
        story_of(subject, chunk=60),
        Expect(Paper(), Budget(48, 96), 0),
    )
    every = [(Head(layer, head), None) for layer in range(LAYERS) for head in range(HEADS)]
    with pytest.raises(Refuted, match="nothing to take a share of"):
        expect(task.circuit(every, mlps=range(LAYERS), called="all").faithfulness(), "made up").above(0.5)
    with pytest.raises(Refuted, match="nothing to take a share of"):
        expect(task.circuit([], mlps=[], called="nothing").faithfulness(), "made up").below(0.1)


def test_on_gpt2s_own_tokenizer(gpt2_folder, tmp_path):
    """Every member is one token, some ordinals are none, and enough names and things are left for the sentences."""
    from transformers import GPT2Config, GPT2LMHeadModel

    GPT2LMHeadModel(GPT2Config(n_layer=LAYERS, n_head=HEADS, n_embd=WIDTH, n_positions=64)).save_pretrained(tmp_path / "gpt2")
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        shutil.copy(gpt2_folder / name, tmp_path / "gpt2" / name)
    subject = subject_of(tmp_path / "gpt2")
    successors = Successors(subject, prepend_bos=False)
    for name, task in TASKS.items():
        assert successors._tokens(task)[0].shape == (task.prompts, SHOWN), name
    assert len(successors._forms("3")) == 2 and successors._forms("eleventh") == [] and len(successors._forms("twelve")) == 1
    assert successors.days().take(1).n == 7
    task = CountingTask.of(subject, seed=0, chunk=24, prepend_bos=False)
    counting: Any = task.population
    assert len(counting.names) > 30 and len(counting.things) > 30
    assert len({batch.tokens.shape[1] for batch in task.batches(task.prompts(24))}) == 2, "one length for each form's"
    assert isinstance(subject.transformer, Transformer)
