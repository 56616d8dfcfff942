"""What a claim leaves on the shared model is found, named, taken off, and never part of a later claim."""

import functools

import pytest
import torch

from circuit_claims.fixtures.leak_guard import Leftovers
from circuit_claims.subjects.subject import Subject
from tests.support.claim_projects import claimed

TOKENS = torch.arange(3, 11)[None]


def double(value, hook):
    return 2 * value


# The watch by itself.


def test_a_model_that_only_ran_carries_nothing(mini: Subject):
    watch = Leftovers(mini.bridge)
    with torch.inference_mode():
        mini.bridge(TOKENS, prepend_bos=False)
        mini.last_logits(TOKENS)
        mini.bridge.run_with_hooks(TOKENS, fwd_hooks=[("blocks.1.attn.hook_z", double)])
        mini.bridge.run_with_cache(TOKENS)
    assert watch.take_hooks() == [] and watch.changed_weights() == []


def test_a_hook_is_named_with_its_module_and_taken_off(mini: Subject):
    with torch.inference_mode():
        before = mini.bridge(TOKENS, prepend_bos=False)
        watch = Leftovers(mini.bridge)
        mini.bridge.add_hook("blocks.1.attn.hook_z", double)
        assert not torch.allclose(before, mini.bridge(TOKENS, prepend_bos=False))
        (left,) = watch.take_hooks()
        assert left == "double on blocks.1.attn.o.hook_in"
        assert torch.equal(before, mini.bridge(TOKENS, prepend_bos=False)) and watch.take_hooks() == []
    mini.bridge.reset_hooks()  # TransformerLens's own lists agree that it is gone


@pytest.mark.parametrize(
    ("hang", "expected"),
    [
        (lambda m: m.register_forward_hook(lambda *_: None), "<lambda> on 0"),
        (lambda m: m.register_forward_pre_hook(functools.partial(print)), "print on 0"),
        (lambda m: m.register_full_backward_hook(lambda *_: None), "<lambda> on 0"),
    ],
    ids=["forward", "before forward", "backward"],
)
def test_torchs_own_hooks_are_seen_too(hang, expected):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    hang(model[0])
    hang(model[0])
    watch = Leftovers(model)
    hang(model[0])
    assert watch.take_hooks() == [expected]
    assert len(watch.present()) == 2, "what hung there before stays"


@pytest.mark.parametrize("change", ["in place", "replaced", "added"])
def test_a_changed_weight_is_named(change):
    linear = torch.nn.Linear(2, 2)
    model = torch.nn.Sequential(linear)
    watch = Leftovers(model)
    with torch.no_grad():
        if change == "in place":
            linear.weight[0, 0] += 1
        elif change == "replaced":
            model[0].weight = torch.nn.Parameter(torch.zeros(2, 2))
        else:
            model.register_parameter("weight", torch.nn.Parameter(torch.zeros(2)))
    assert watch.changed_weights() == [{"added": "weight"}.get(change, "0.weight")]


# In a run.

HOOKS = '''
def double(value, hook):
    return 2 * value

def test_a_tidy_claim(subject, expect):
    """Hooks that are taken off are nobody's business."""
    subject.bridge.run_with_hooks("Mary", fwd_hooks=[("blocks.1.attn.hook_z", double)])
    expect(sizes(2, 2)).above(1)

def test_b_leaves_hooks(subject, expect):
    """What it says would hold."""
    expect(sizes(2, 2)).above(1)
    subject.bridge.add_hook("blocks.1.attn.hook_z", double)
    subject.bridge.add_hook("blocks.2.hook_resid_pre", double)

def test_c_refuted_and_leaves_a_hook(subject, expect):
    """What it says would be refuted."""
    subject.bridge.add_hook("blocks.1.attn.hook_z", double)
    expect(sizes(2, 2)).above(3)

@known_false
def test_d_known_false_and_leaves_a_hook(subject, expect):
    """What it says is known to be false."""
    subject.bridge.add_hook("blocks.1.attn.hook_z", double)
    expect(sizes(2, 2)).above(3)

@pytest.fixture
def hooked(subject):
    subject.bridge.add_hook("blocks.1.attn.hook_z", double)
    yield
    subject.bridge.reset_hooks()

def test_e_fixture_that_takes_its_hook_off(hooked, expect):
    """A fixture may hook the model for the length of a claim."""
    expect(sizes(2, 2)).above(1)

@pytest.fixture
def untidy(subject):
    subject.bridge.add_hook("blocks.1.attn.hook_z", double)

def test_f_fixture_that_leaves_its_hook(untidy, expect):
    """A fixture may not leave it there."""
    expect(sizes(2, 2)).above(1)

def test_g_sees_a_clean_model(subject, expect):
    """After all of them the model is as it was."""
    expect(sizes(*[2.0 if not subject.bridge.hook_dict["blocks.1.attn.hook_z"].fwd_hooks else 0.0] * 2)).above(1)
'''


def test_a_claim_that_leaves_a_hook_is_invalid_and_says_which(project):
    result, rows = claimed(project, HOOKS)
    verdicts = {row["claim_id"].split("/")[-1]: (row["verdict"], row["reason"]) for row in rows}
    one = "it left a hook on the model (double on blocks.1.attn.o.hook_in): take it off in the claim"
    assert verdicts["a_tidy_claim"][0] == "holds"
    assert verdicts["b_leaves_hooks"][0] == "invalid"
    assert "double on blocks.1.attn.o.hook_in" in verdicts["b_leaves_hooks"][1] and "blocks.2." in verdicts["b_leaves_hooks"][1]
    assert verdicts["c_refuted_and_leaves_a_hook"] == verdicts["d_known_false_and_leaves_a_hook"] == ("invalid", one)
    assert verdicts["e_fixture_that_takes_its_hook_off"][0] == "holds"
    assert verdicts["f_fixture_that_leaves_its_hook"][0] == "holds"
    assert verdicts["f_fixture_that_leaves_its_hook#2"] == ("invalid", one)
    assert verdicts["g_sees_a_clean_model"][0] == "holds"
    assert len(rows) == 8 and result.ret == pytest.ExitCode.TESTS_FAILED


WEIGHTS = '''
import torch

def test_a_changes_the_weights(subject, expect):
    """What it says would hold."""
    with torch.no_grad():
        next(subject.bridge.parameters()).mul_(1.5)
    expect(sizes(2, 2)).above(1)

def test_b_would_see_another_model(expect):
    """What is not run."""
    expect(sizes(2, 2)).above(1)
'''


def test_a_claim_that_changes_the_weights_is_invalid_and_ends_the_run(project):
    result, [row] = claimed(project, WEIGHTS)
    assert row["verdict"] == "invalid" and "changed the model's weights (" in row["reason"] and "wte.weight" in row["reason"]
    result.stdout.fnmatch_lines(["*test_a_changes_the_weights changed the weights of the model that all claims share*"])
    assert result.ret == pytest.ExitCode.INTERRUPTED or result.ret == pytest.ExitCode.TESTS_FAILED
