"""Every call that the documentation and modules of tasks advertise, run: on `mini`, or on one with the words it lacks."""

import ast
import inspect
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from circuit_claims.heads import Head
from circuit_claims.measure.grid_statistics import cell, handover_layer
from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.samples import Grid, GridStatistic, Samples
from circuit_claims.prompts.acronyms import acronyms_for
from circuit_claims.prompts.facts import FactList
from circuit_claims.prompts.greater_than import years_for
from circuit_claims.prompts.ioi import Population
from circuit_claims.prompts.words import NAMES
from circuit_claims.subjects.subject import Subject
from circuit_claims.tasks.acronyms.task import AcronymTask
from circuit_claims.tasks.copy_suppression.task import TokenCircuits
from circuit_claims.tasks.facts.task import Facts
from circuit_claims.tasks.greater_than.task import GreaterThan
from circuit_claims.tasks.induction.prefixes import Prefixes
from circuit_claims.tasks.induction.published_text import PublishedText
from circuit_claims.tasks.induction.repeated_tokens import RepeatedTokens
from circuit_claims.tasks.induction.task import Induction
from circuit_claims.tasks.ioi.task import IOI
from circuit_claims.tasks.metric import PROBABILITY
from circuit_claims.tasks.probing.task import Probes
from circuit_claims.tasks.successors.counting import CountingTask
from circuit_claims.tasks.successors.next_scores import Successors
from circuit_claims.tasks.tokenizer.task import Tokens
from tests.docs.pages import page, section
from tests.support.letter_tokens import letter_subject
from tests.tasks.weights.test_successors import save_counting_model, subject_of

#: Prompts that are measured: one of each order of two templates.
N = 4
TEXT = "When John and Mary went to the store, John gave a drink to"
#: Modules whose first docstring shows calls.
SHOWN = (
    "acronyms.task",
    "facts.task",
    "greater_than.task",
    "induction.task",
    "ioi.task",
    "operations.attribution_patching",
    "operations.patching",
)


def alternatives(call: str) -> Iterator[str]:
    """The calls that one with alternatives stands for: `f("a" | "b")` for two."""
    pieces = re.split(r'("[^"]*"(?: \| "[^"]*")+)', call)
    choices = [piece.split(" | ") if number % 2 else [piece] for number, piece in enumerate(pieces)]
    return ("".join(chosen) for chosen in itertools.product(*choices))


def advertised_by_the_documentation() -> list[str]:
    text = section(page("reference/claims.md"), "What can be measured")
    calls = [call for call in re.findall(r"`([^`]+)`", text) if "(" in call]
    return [one for call in calls for one in alternatives(call)]


def advertised_by_modules() -> list[str]:
    """The indented lines of modules' docstrings that are calls, under the names that they are assigned to."""
    found = []
    for module in SHOWN:
        doc = inspect.getdoc(import_module(f"circuit_claims.tasks.{module}")) or ""
        for line in re.findall(r"^    (\S.*)$", doc, re.M):
            try:
                ast.parse(line, mode="eval")
            except SyntaxError:
                continue
            if "(" in line:
                found.append(line)
    return found


class Words(Mapping[str, Any]):
    """What calls speak of, each made when it is first asked for."""

    def __init__(self, makers: Mapping[str, Callable[["Words"], Any]]):
        self._makers, self._made = makers, {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self._makers[name](self)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def weights_of(subject: Subject) -> Any:
    from circuit_claims.subjects.find import find_folder
    from circuit_claims.tasks.weights.attention_weights import read_attention_weights
    from circuit_claims.tasks.weights.task import Weights

    return Weights(read_attention_weights(find_folder("mini")), subject.card, {"subject": "mini"}, 0)


def sae_text_of(subject: Subject) -> Any:
    from circuit_claims.sae.folder import EMBEDDED_SAES, find_sae_folder
    from circuit_claims.sae.loaded import load_sae
    from circuit_claims.sae.metrics_on_text import VERDICT_ROWS, SaeText
    from circuit_claims.sae.text import GeneratedRows

    return SaeText(load_sae(find_sae_folder(EMBEDDED_SAES["mini"]), subject), GeneratedRows("held out"), VERDICT_ROWS, 4)


def sae(name: str) -> Callable[[Words], Any]:
    def make(words: Words) -> Any:
        from circuit_claims.sae.features import SaeFeatures
        from circuit_claims.sae.ioi import SaeIOI
        from circuit_claims.sae.metrics import SaeNumbers

        text, subject = words["sae_text"], words["subject"]
        if name == "ioi":
            return SaeIOI(words["ioi"], text.sae, subject.card)
        return (SaeNumbers if name == "numbers" else SaeFeatures)(text, subject.card, 0)

    return make


@pytest.fixture(scope="module")
def words(mini: Subject, tmp_path_factory: pytest.TempPathFactory) -> Words:
    card, folder = mini.card, tmp_path_factory.mktemp("advertised")
    drawn: dict[str, Any] = {"seed": 0, "chunk": N}
    counting = {}

    def counting_subject() -> Subject:
        if not counting:
            counting["subject"] = subject_of(save_counting_model(folder / "counting"))
        return counting["subject"]

    def acronyms(_: Words) -> AcronymTask:
        subject = letter_subject(folder / "letters")
        return AcronymTask(subject=subject, **drawn, population=acronyms_for(subject.tokenizer), prepend_bos=True)

    def greater_than(_: Words) -> GreaterThan:
        return GreaterThan(subject=mini, **drawn, population=years_for(mini.tokenizer), prepend_bos=True)

    nodes, effects = card.nodes(), card.table("sae effects")
    return Words(
        {
            "subject": lambda _: mini,
            "card": lambda _: card,
            "ioi": lambda _: IOI(
                subject=mini, **drawn, population=Population(templates=(0, 5), names=mini.names), prepend_bos=False
            ),
            "facts": lambda _: Facts(subject=mini, **drawn, population=FactList(), prepend_bos=False),
            "greater_than": greater_than,
            "acronyms": acronyms,
            "repeated": lambda _: RepeatedTokens(subject=mini, seed=0, prepend_bos=False),
            "induction": lambda _: Induction(subject=mini, seed=0, prepend_bos=False),
            "prefixes": lambda _: Prefixes(subject=mini, seed=0),
            "published_text": lambda _: lambda text: PublishedText(mini, text, prepend_bos=True),
            "copy_suppression": lambda _: TokenCircuits(subject=mini, seed=0),
            "successors": lambda _: Successors(subject=counting_subject(), prepend_bos=False),
            "counting": lambda _: CountingTask.of(counting_subject(), **drawn, prepend_bos=False),
            "probes": lambda words: Probes(words["ioi"]),
            "weights": lambda _: weights_of(mini),
            "tokens": lambda _: Tokens(mini.tokenizer, NAMES[:12], {}),
            "sae_text": lambda _: sae_text_of(mini),
            "sae_numbers": sae("numbers"),
            "sae_features": sae("features"),
            "sae_ioi": sae("ioi"),
            "heads": lambda _: [Head(1, 2), Head(2, 6)],
            "head": lambda _: Head(3, 2),
            "another_head": lambda _: Head(2, 6),
            "senders": lambda _: [Head(0, 4), Head(1, 2)],
            "receivers": lambda _: [Head(2, 6), Head(3, 2)],
            "mlps": lambda _: [2, 3],
            "nodes": lambda _: nodes,
            "some_nodes": lambda _: [nodes[0]],
            "node": lambda _: nodes[0],
            "companions": lambda _: [nodes[1]],
            "nodes_everywhere": lambda _: [(Head(0, 1), None)],
            "OXYGEN": lambda _: ("The capital of France is", "Paris", "Rome"),
            "metric": lambda _: PROBABILITY,
            "text": lambda _: TEXT,
            "meaning": lambda _: effects.rows[0].split(": ", 1)[1],
            "feature": lambda _: int(effects[effects.rows[0], "feature"].value),
            "features": lambda _: [3, 5],
        }
    )


def runs(call: str, words: Words) -> None:
    """The call gives finite numbers with a name and a unit."""
    found = eval(call, {}, words)
    if isinstance(found, Measurement):
        found = found.take(N if found.limit is None else min(N, found.limit))
    assert isinstance(found, Samples | Grid | GridStatistic), call
    values = found.grid.values if isinstance(found, GridStatistic) else found.values
    assert np.isfinite(values).all() and found.quantity, call


@pytest.mark.parametrize("call", advertised_by_the_documentation())
def test_a_call_of_the_documentation_runs(call: str, words: Words):
    runs(call, words)


def test_the_documentation_advertises_every_chapter_and_operation():
    calls = advertised_by_the_documentation()
    assert len(calls) > 80 and {call.split(".")[0] for call in calls} >= {
        "ioi", "repeated", "induction", "prefixes", "published_text(text)", "facts", "greater_than", "acronyms", "counting",
        "successors", "copy_suppression", "probes", "sae_numbers", "sae_features", "sae_ioi", "weights", "tokens",
    }  # fmt: skip


@pytest.mark.parametrize("call", advertised_by_modules())
def test_a_call_of_a_modules_docstring_runs(call: str, words: Words):
    runs(re.sub(r"\btask\b", "ioi", call), words)


# What did not work, or said something wrong


@pytest.fixture(scope="module")
def greater_than(words: Words) -> GreaterThan:
    return words["greater_than"]


def test_the_default_corruption_of_a_sweep_is_that_of_the_prompts(words: Words, greater_than: GreaterThan):
    assert "(third word)" in words["acronyms"].head_sweep().take(N).quantity
    for measured in (greater_than.head_sweep(), greater_than.path_sweep(), greater_than.patch([Head(3, 2)]).recovery()):
        assert "(01)" in measured.take(N).quantity
    assert "(name swap)" in words["ioi"].head_sweep().take(N).quantity and "(ABC)" in words["ioi"].path_sweep().take(N).quantity


def test_a_residual_sweep_visits_the_roles_of_the_prompts(words: Words, greater_than: GreaterThan):
    grid = greater_than.residual_sweep().take(N)
    assert list(grid.column_labels) == ["YY", "END"] and grid.estimate[0, 0] == pytest.approx(1, abs=1e-3)
    assert grid.estimate[0, 1] == pytest.approx(0, abs=1e-4)
    roles = greater_than.population.roles
    assert cell(0, "YY", roles)(grid.estimate) == grid.estimate[0, 0]
    assert 0 < handover_layer("YY", "END", roles)(grid.estimate) <= len(grid.estimate)
    assert list(words["acronyms"].residual_sweep().take(N).column_labels)[-1] == "END"


def test_a_loss_of_probability_is_said_in_probability(greater_than: GreaterThan):
    path, metric = greater_than.path([Head(2, 6)]), greater_than.metric
    assert (metric.name, metric.unit) == ("probability difference", "probability")
    assert path.value().take(N).unit == path.change().take(N).unit == "probability"
    assert path.share().take(N).unit == "share of the probability difference"
    assert greater_than.noise([Head(2, 6)]).change().take(N).unit == "probability"
    assert "logit difference" not in path.change().take(N).quantity + path.value().take(N).quantity


def test_a_sweep_of_another_metric_is_its_patches(greater_than: GreaterThan):
    """The cell of a head is that head patched alone, judged by the metric of year spans."""
    head = Head(3, 5)
    alone, cell = greater_than.patch([head]).recovery().take(N), greater_than.head_sweep().take(N)
    assert cell.values[(slice(None), *head)] == pytest.approx(alone.values, abs=1e-6)
    assert cell.weights == pytest.approx(greater_than.baseline("01").take(N).values, abs=1e-6)


@pytest.mark.parametrize(
    ("chapter", "operations"),
    {
        "greater_than": (
            "attribution_sweep",
            "copy_score",
            "ablate",
            "circuit",
            "direct_attribution",
            "signals",
            "taken_over",
            "published",
        ),
        "acronyms": ("attribution_sweep", "copy_score", "ablate", "circuit", "direct_attribution", "signals", "published"),
        "counting": (
            "head_sweep",
            "attribution_sweep",
            "attention_sweep",
            "copy_score",
            "signals",
            "direct_attribution",
            "published",
        ),
        "facts": ("head_sweep", "attention_sweep", "copy_score", "ablate", "signals"),
    }.items(),
)
def test_what_a_chapter_does_not_support_does_not_exist_on_it(words: Words, chapter: str, operations: tuple[str, ...]):
    for operation in operations:
        assert hasattr(IOI, operation) and not hasattr(words[chapter], operation), operation


def test_operations_inherit_nothing_but_the_task():
    from circuit_claims.tasks.measuring import Measuring
    from circuit_claims.tasks.task import Task

    for cls in (IOI, GreaterThan, AcronymTask, CountingTask, Facts):
        for operation in cls.__bases__:
            ours = [base for base in operation.__mro__[1:-1] if base.__module__.startswith("circuit_claims")]
            assert ours == [Task, Measuring], operation


def test_a_task_is_judged_by_a_metric_of_ones_own(words: Words):
    """Whatever is measured then is of that metric, and kept apart from what was measured by the task's own."""
    ioi = words["ioi"]
    other = ioi.judged_by(PROBABILITY)
    assert other.baseline().take(N).values == pytest.approx(ioi.probability().take(N).values, abs=1e-6)
    for measured in (other.ablate([Head(3, 2)]).value(), other.noise([Head(3, 2)]).change()):
        assert measured.take(N).unit == "probability" and "probability of the answer" in other.baseline().take(N).quantity
    assert np.abs(other.head_sweep().take(N).values - ioi.head_sweep().take(N).values).max() > 1e-2
    for refused in (other.attribution_sweep, other.direct_attribution):
        with pytest.raises(ValueError, match="logit differences"):
            refused()
