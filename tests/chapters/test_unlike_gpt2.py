"""Other architectures: what is refused, with a reason and never with a number; and whole runs of claims."""

from typing import cast

import numpy as np
import pytest
import torch

from circuit_claims.discovery.survey import Survey
from circuit_claims.discovery.values import name_movers
from circuit_claims.engine.decoder.module_decoder import ModuleDecoder
from circuit_claims.engine.decoder.transformer import Transformer
from circuit_claims.engine.edits import HEAD_SITES, Edit, Site
from circuit_claims.engine.hooked.decoder import HookedDecoder
from circuit_claims.engine.hooked.passes import HOOKS
from circuit_claims.models.folder import EMBEDDED
from circuit_claims.prompts.ioi import Population
from circuit_claims.subjects import engine_choice
from circuit_claims.subjects.subject import Settings, Subject, prepare
from circuit_claims.tasks.induction.repeated_tokens import RepeatedTokens
from circuit_claims.tasks.ioi.task import IOI
from circuit_claims.tasks.operations.ablation import ABLATIONS
from circuit_claims.untested import Untested
from tests.conftest import HEADS
from tests.engine.test_path_patching import EVERY_HEAD, ONLY_END, SCATTERED, at_end, plainly
from tests.support.claim_runs import run_claims, run_pytest
from tests.support.other_architectures import (
    ARCHITECTURES,
    TESTED,
    cache_of,
    edits_from,
    engine_of,
    forward_with,
    load,
    only_hooks,
    save_as_opt,
    save_tiny_decoder,
)

#: With patching, path patching, attention, copying, knock-outs and counterfactual signals; and with circuits and a search.
CHAPTERS = "name_movers or S_inhibition or knockouts or residual_stream or early_heads"
SEARCHES = "greedy or one_name_mover or minimality"


@pytest.fixture
def llama(tmp_path):
    """One that may be spoiled."""
    return load(save_tiny_decoder(tmp_path / "model", "Llama"), "raw")


def spoil(module, change) -> None:
    """Change what a module gives, behind its hooks."""
    forward = module.forward
    object.__setattr__(module, "forward", lambda *args, **kwargs: change(forward(*args, **kwargs)))


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in TESTED])
@torch.inference_mode()
def test_of_other_architectures_what_their_bridges_can_do_agrees_too(tmp_path, pair, name):
    """Or is refused: attention probabilities that the bridge shows once the model has used them, for one."""
    subject = load(save_tiny_decoder(tmp_path / "model", name), "raw")
    model, (clean, corrupted) = engine_of(subject, HookedDecoder), pair
    assert isinstance(model, HookedDecoder)
    assert isinstance(subject.transformer, HookedDecoder if name == "Bloom" else ModuleDecoder)
    assert ("pattern" in model.not_editable) is (name in ("GPT-J", "OPT"))
    assert ("head_out" in model.not_readable) is (name == "Olmo2")
    assert ("resid_mid" in model.not_readable) is (name in ("GPT-J", "Phi"))
    base, cache = model.run(corrupted), cache_of(subject.bridge, clean)
    for site in cast("list[Site]", list(HOOKS)):
        grouped = site in ("k", "v") and model.group > 1
        edits = edits_from(cache, site, SCATTERED, by_head=site in HEAD_SITES and not grouped)
        if site in model.not_editable:
            with pytest.raises(Untested, match="does not change what it should"):
                model.intervene(base, edits)
            continue
        theirs = torch.stack([forward_with(subject.bridge, corrupted, cache, edit) for edit in edits])
        assert (model.logits(model.intervene(base, edits)) - theirs).abs().max() < 1e-4
    ours = model.path_patch(base, model.run(clean), EVERY_HEAD, None, ONLY_END)
    assert (ours - at_end(plainly(subject.bridge, corrupted, clean, EVERY_HEAD, None, ONLY_END))).abs().max() < 1e-4


def test_a_bridge_whose_attention_writes_something_else_than_it_shows_is_noticed(llama, pair):
    spoil(llama.bridge.blocks[1].attn, lambda output: (output[0] * 1.1, *output[1:]))
    model = llama.transformer
    run = model.run(pair[0])
    for part in ("attn_out", "mlp_out", "resid_mid"):
        with pytest.raises(Untested, match="do not add up to the stream"):
            model.intervene(run, [[Edit(0, part, run.resid[0])]])
    with pytest.raises(Untested, match="do not add up"):
        _ = model.attention(0, run.resid[0]).out
    assert model.attention(0, run.resid[0]).z.shape == (5, 9, HEADS, 8)


def test_a_block_that_looks_at_the_tokens_besides_the_stream_is_noticed(llama):
    seen = []
    embed = llama.bridge.embed.forward
    object.__setattr__(llama.bridge.embed, "forward", lambda tokens: seen.append(embed(tokens)) or seen[-1])
    spoil(llama.bridge.blocks[0], lambda stream: stream + seen[-1])
    with pytest.raises(Untested, match="starting it at layer 0 does not give the residual stream"):
        _ = llama.transformer
    assert llama.last_logits(torch.arange(2, 8)[None]).shape[0] == 1, "behaviour can be measured all the same"


def test_a_bridge_that_fails_between_layers_is_noticed(llama, monkeypatch):
    from circuit_claims.engine.hooked import self_check

    def broken(*_):
        raise RuntimeError("expected scalar type Float but found BFloat16")

    only_hooks(monkeypatch)
    monkeypatch.setattr(self_check, "_read_all", broken)
    with pytest.raises(Untested, match="it does not run layer by layer: expected scalar type Float"):
        _ = llama.transformer


def test_a_hook_that_is_not_called_is_an_error(llama, pair, monkeypatch):
    only_hooks(monkeypatch)
    model = llama.transformer
    spoil(llama.bridge.blocks[2].attn.o, lambda out: out)
    object.__setattr__(llama.bridge.blocks[2].attn.o, "forward", llama.bridge.blocks[2].attn.o.original_component.forward)
    with pytest.raises(RuntimeError, match="went past z of layer 2 without calling its hook"):
        model.intervene(model.run(pair[0]), [[Edit(2, "z", torch.zeros(5, 9, HEADS, 8))]])


@pytest.mark.parametrize("name", ["Llama", "Bloom"])
def test_a_run_says_why_interventions_take_longer(name, tmp_path):
    """A model whose plan is not known goes through hooks; one whose plan is known says nothing."""
    folder = save_tiny_decoder(tmp_path / "model", name)
    options = ["--card", "none", "--prompts=30", "--max-prompts=30", "--report-dir", str(tmp_path / "report")]
    said = run_pytest("claims/ioi/test_behaviour.py", "--subject", str(folder), *options).stdout
    assert ("interventions: through hooks and over whole sequences" in said) is (name == "Bloom")
    assert ("takes longer (its positions are biases of the attention scores (ALiBi))" in said) is (name == "Bloom")


# A trained model in another architecture's words.


@pytest.fixture(scope="module", params=[ModuleDecoder, HookedDecoder], ids=["modules", "hooks"])
def mini_as_opt(request, tmp_path_factory):
    folder = save_as_opt(EMBEDDED["mini"], tmp_path_factory.mktemp("opt") / "mini")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_choice, "ENGINES", (request.param,))
        subject = Subject(prepare(Settings(name=str(folder), card="mini")))
        assert isinstance(subject.transformer, request.param)
    return subject


def measurements(subject):
    """One of each kind, on the same prompts."""
    ioi = IOI(subject=subject, seed=0, chunk=12, population=Population(names=subject.names), prepend_bos=False)
    movers, inhibitors = subject.card.heads("name mover"), subject.card.heads("S-inhibition")
    yield "recovery by heads", ioi.head_sweep()
    yield "recovery by the stream", ioi.residual_sweep()
    yield "paths to the logits", ioi.path_sweep()
    yield "paths without heads", ioi.path_sweep_without(movers[:2])
    yield "paths to queries", ioi.path_sweep(to=movers, into="q")
    yield "paths to keys", ioi.path_sweep(to=movers, into="k", at="IO")
    yield "paths to values", ioi.path_sweep(to=movers, into="v", at="IO")
    yield "copy scores", ioi.copy_score_sweep()
    yield "writing along names", ioi.writing_along_names(movers[0])
    yield "moments of attention and projection", ioi.attention_projection_correlation(movers[0])
    yield "signals", ioi.signals(inhibitors)
    yield "circuit", ioi.circuit(subject.card.nodes()).value()
    yield "MLP knocked out", ioi.ablate_mlps([1]).value()
    for by in ABLATIONS:
        yield f"heads knocked out by {by}", ioi.ablate(movers, by=by, at="END").value()
    yield "induction", RepeatedTokens(subject=subject, seed=0, prepend_bos=False).attention_scores("induction")


def test_mini_written_as_an_OPT_measures_what_mini_measures(mini, mini_as_opt):
    """The same function of tokens, so the same numbers, though one is computed by our code and one by OPT's."""
    assert isinstance(mini.transformer, Transformer) and not isinstance(mini_as_opt.transformer, Transformer)
    for (name, fast), (_, other) in zip(measurements(mini), measurements(mini_as_opt), strict=True):
        # A number read off a grid has the grid's values.
        ours, theirs = (np.asarray(getattr(taken, "grid", taken).values) for taken in (other.take(12), fast.take(12)))
        assert np.abs(theirs).max() > 1e-2, name
        assert np.abs(ours - theirs).max() < 1e-3, name


def test_discovery_leaves_out_what_an_architecture_does_not_have(mini_as_opt, monkeypatch):
    if isinstance(mini_as_opt.transformer, HookedDecoder):
        monkeypatch.setitem(mini_as_opt.transformer.not_readable, "head_out", "heads' outputs do not simply add up")
    else:
        monkeypatch.setattr(mini_as_opt.transformer, "heads_add_up", False)
    survey = Survey.of(mini_as_opt, n=24, seed=0, prepend_bos=False)
    found = name_movers(survey, mini_as_opt.card)
    wanted = {"name_mover_correlation", "name_mover_copy_score", "average_copy_score"}
    assert {key for key, why in found.left_out.items() if why.startswith("heads' outputs do not simply add up")} == wanted
    assert "name_mover_attention" in found.values


# Whole runs of claims.


@pytest.mark.parametrize(("name", "chapters"), [("Llama", CHAPTERS), ("NeoX", SEARCHES)], ids=["Llama", "NeoX"])
def test_claims_of_interventions_get_verdicts(name, chapters, tmp_path):
    """On random weights none holds, none is invalid, and none is untested but for what the card does not say."""
    folder = save_tiny_decoder(tmp_path / "model", name, n_layer=4, n_head=8, width=128)
    options = ["--card", "mini", "--prompts=30", "--max-prompts=30", "--hypothesis-profile=fast", "-k", chapters]
    rows = run_claims(tmp_path / "report", "claims/ioi", "--subject", str(folder), *options).rows
    assert {row["verdict"] for row in rows} <= {"refuted", "inconclusive", "untested", "known false"}
    untested = [row["reason"] for row in rows if row["verdict"] == "untested"]
    assert [reason for reason in untested if not reason.startswith("the card")] == []
    assert len(rows) - len(untested) > 10
