"""The families of a model: numbers of every head, measured step by step, the rules applied, and what each head is needed for.

What has been measured is kept by its name (`Survey.known`), so that a search that was stopped goes on where it was.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial

import numpy as np

from circuit_claims.discovery.combined_sweeps import minus
from circuit_claims.discovery.families import (
    ATTENTION,
    BACKUP,
    EFFECT,
    LOOKS,
    Found,
    HeadScores,
    asked_of,
    name_movers,
    propose,
)
from circuit_claims.discovery.survey import OfHeads, Survey
from circuit_claims.heads import Head
from circuit_claims.measure.samples import Grid
from circuit_claims.tasks.induction.repeated_tokens import SCORES, Score

#: Change of the logit difference from which on a family belongs to the circuit: the paper's 1 % for a node (section 4.3).
IN_CIRCUIT = 0.01
#: Attention between which roles is looked at (from, to).
ROLES = (("END", "IO"), ("END", "S1"), ("END", "S2"), *LOOKS.values())
#: What is known of every head, by the names that an unfinished card keeps it under.
DIRECT, RECOVERY, INTO_MOVERS = "direct", "recovery at END", "into the name movers' queries"
DIRECT_WITHOUT, KNOCKED_OUT = "direct without the name movers", "loss when knocked out"
#: Why an early family is not yet in the circuit, on a card that is not finished.
NOT_KNOCKED_OUT = "whether the circuit needs them was not measured yet"
#: What `find` measures, in its order.
STEPS = (
    "attention of every head",
    "direct paths to the logits",
    "patching every head at END",
    "random tokens",
    "paths into the name movers' queries",
    "direct paths without the name movers",
    "knocking out what was found",
)

At = Callable[[str], None]


def find(survey: Survey, at: At) -> dict[str, Found]:
    """Measure every head and apply the rules.

    at: told which of `STEPS` begins; what the survey knows already is not measured again.
    """
    scores = measured(survey, at)
    found = propose(scores)
    if KNOCKED_OUT not in survey.known:
        at(STEPS[6])
    return _with_knock_outs(survey, scores, found)


def steps_left(survey: Survey) -> list[str]:
    """Those of `STEPS` of which something is not known yet."""
    names = [map(_attention_name, ROLES), [DIRECT], [RECOVERY], map(_random_name, SCORES), [INTO_MOVERS], [DIRECT_WITHOUT]]
    names = [*names, [KNOCKED_OUT]]
    return [step for step, of_step in zip(STEPS, names, strict=True) if any(name not in survey.known for name in of_step)]


def found_so_far(survey: Survey) -> dict[str, Found]:
    """The families of which everything is known that their rules ask for, with what evidence there is."""
    scores, found = scores_so_far(survey), {}
    for name, family in propose(scores).items():
        if not any(np.isnan(numbers).any() for numbers in asked_of(name, scores)):
            note = family.note or (NOT_KNOCKED_OUT if name in LOOKS else "")
            evidence = {head: _evidence(name, head, scores, None) for head in family.heads}
            found[name] = replace(family, note=note, evidence=evidence)
    return found


def scores_so_far(survey: Survey) -> HeadScores:
    """What the survey knows of every head; NaN, which meets no rule, where that is nothing."""
    model = survey.ioi.subject.transformer
    nothing = np.full((model.n_layers, model.n_heads), np.nan)
    direct, recovery, into_movers, direct_without = (
        survey.known.get(name, nothing) for name in (DIRECT, RECOVERY, INTO_MOVERS, DIRECT_WITHOUT)
    )
    return HeadScores(
        attention={roles: survey.known.get(_attention_name(roles), nothing) for roles in ROLES},
        random={score: survey.known.get(_random_name(score), nothing) for score in SCORES},
        direct=direct,
        recovery=recovery,
        into_movers=into_movers,
        direct_without=direct_without,
    )


def measured(survey: Survey, at: At) -> HeadScores:
    """The numbers of every head that the rules look at; an effect that there is nothing to measure on is zero.

    at: as for `find`.
    """
    ioi, model = survey.ioi, survey.ioi.subject.transformer
    nothing = np.zeros((model.n_layers, model.n_heads))

    def step(number: int, wanted: Mapping[str, Callable[[], OfHeads]], *, possible: bool = True) -> None:
        """One of STEPS, unless all of it is known; what it would measure is zero where it is not possible."""
        if possible and any(name not in survey.known for name in wanted):
            at(STEPS[number])
        for name, measure in wanted.items():
            survey.kept(name, measure if possible else lambda: nothing)

    step(0, _attention(survey))
    known = scores_so_far(survey)
    to_names, to_S2 = known.to_names > ATTENTION, known.attention["END", "S2"] > ATTENTION
    direct, recovery = ioi.path_sweep(), ioi.head_sweep(at="END")
    step(1, {DIRECT: lambda: survey.beyond(direct, EFFECT, -EFFECT, among=to_names)}, possible=survey.shows_the_task)
    step(2, {RECOVERY: lambda: survey.beyond(recovery, EFFECT, among=to_S2)}, possible=survey.shows_the_task)
    step(3, {_random_name(score): partial(survey.random_token_scores, score) for score in SCORES})
    movers = name_movers(scores_so_far(survey))
    into = ioi.path_sweep(to=movers, into="q") if movers else None
    step(4, {INTO_MOVERS: lambda: survey.beyond(into, EFFECT) if into else nothing}, possible=bool(movers))
    if not movers:
        survey.kept(DIRECT_WITHOUT, lambda: survey.known[DIRECT])

    def without() -> OfHeads:
        grown = survey.beyond(minus(ioi.path_sweep_without(movers), direct), BACKUP, among=to_names)
        return survey.known[DIRECT] + grown

    step(5, {DIRECT_WITHOUT: without})
    return scores_so_far(survey)


def _attention(survey: Survey) -> dict[str, Callable[[], OfHeads]]:
    """Attention between all roles, on as many prompts as tell which heads attend to what their family does.

    To the two names of the first clause it is their sum that counts.
    """
    looked_for = {("END", "S2"), ("S2", "S1")}

    @cache
    def grid() -> Mapping[tuple[str, str], OfHeads]:
        model = survey.ioi.subject.transformer

        def with_sum(grid: Grid) -> Grid:
            to_IO, to_S1 = grid.values[:, :, : model.n_heads], grid.values[:, :, model.n_heads : 2 * model.n_heads]
            return replace(grid, values=np.concatenate([grid.values, to_IO + to_S1], axis=2))

        every, asked = survey.ioi.attention_sweeps(ROLES).mapped(with_sum), [*(roles in looked_for for roles in ROLES), True]
        among = np.tile(np.repeat(asked, model.n_heads), (model.n_layers, 1))
        found = np.split(survey.beyond(every, ATTENTION, among=among), len(asked), axis=1)
        return dict(zip(ROLES, found, strict=False))

    return {_attention_name(roles): lambda roles=roles: grid()[roles] for roles in ROLES}


def _attention_name(roles: tuple[str, str]) -> str:
    return f"attention from {roles[0]} to {roles[1]}"


def _random_name(score: Score) -> str:
    return f"{score} on random tokens"


def _with_knock_outs(survey: Survey, scores: HeadScores, found: dict[str, Found]) -> dict[str, Found]:
    """The families with the evidence for each head, and those role_only without which the logit difference is the same."""
    ioi = survey.ioi
    named = sorted({head for family in found.values() for head in family.heads})
    early = [name for name in LOOKS if name in found]
    alone = [ioi.ablate([head]) for head in named]
    joint = [ioi.without((head, found[name].position) for head in found[name].heads) for name in early]
    changes = {}
    losses: dict[Head, float] = {}
    possible = survey.shows_the_task and named

    def measure() -> np.ndarray:  # a head's own loss is evidence, and what a family costs decides
        return np.array([*survey.lost(alone, EFFECT), *survey.lost(joint, IN_CIRCUIT)])

    lost = survey.kept(KNOCKED_OUT, measure if possible else lambda: np.zeros(0)).tolist()
    if possible:
        losses = dict(zip(named, lost, strict=False))
        changes = dict(zip(early, lost[len(alone) :], strict=True))
    settled = {}
    for name, family in found.items():
        note = _outside_the_circuit(changes.get(name)) if name in early else family.note
        evidence = {head: _evidence(name, head, scores, losses.get(head)) for head in family.heads}
        settled[name] = replace(family, note=note, evidence=evidence)
    return settled


def _outside_the_circuit(change: float | None) -> str:
    """Why an early family is no part of the circuit; empty where it is one."""
    if change is None:
        return "the model shows no logit difference, so there is no circuit that these heads could belong to"
    if abs(change) > IN_CIRCUIT:
        return ""
    return (
        "not in the circuit: knocking them out together, at their position, changes the logit difference by "
        f"{abs(change):.2%}, not by more than {IN_CIRCUIT:.0%}"
    )


def _evidence(name: str, head: Head, scores: HeadScores, loss: float | None) -> str:
    """What was found of one head, in the terms of its family."""
    early = name.removeprefix("validated ")
    if early in LOOKS:
        of, to = LOOKS[early]
        parts = [f"on random tokens {scores.random[early][head]:.2f}"]
        if name != early:  # the family itself says the rest
            return parts[0]
        parts.append(f"{of} to {to} {scores.attention[of, to][head]:.2f}")
    else:
        parts = ["END to " + ", ".join(f"{to} {scores.attention['END', to][head]:.2f}" for to in ("IO", "S1", "S2"))]
        parts.append(f"direct {_share(scores.direct[head])}")
        if name == "backup name mover":
            parts.append(f"without the name movers {_share(scores.direct_without[head])}")
        parts += [
            f"into the name movers' queries {_share(scores.into_movers[head])}",
            f"recovery at END {_share(scores.recovery[head])}",
        ]
    if loss is not None:
        parts.append(f"loss when ablated {_share(loss)}")
    return "; ".join(parts)


def _share(value: float) -> str:
    text = f"{value:.3f}"
    return text.removeprefix("-") if float(text) == 0 else text
