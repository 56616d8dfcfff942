"""Published claims about circuits of language models: measured in a notebook, or run as tests.

    import circuit_claims as cc

    model = cc.load("mini")                       # or "gpt2", a folder, a hub id
    ioi = cc.IOI(model)
    ioi.head_sweep(at="END").take(60)
    ioi.logit_difference().take(60).mean_interval()
    cc.logit_lens(model, "Water is made of hydrogen and", " oxygen").crossover_layer

Each name is imported when it is first used, so that `import circuit_claims` costs nothing. PYTEST_DONT_REWRITE
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from circuit_claims.cards.card import Card
    from circuit_claims.experiments.attention import attention
    from circuit_claims.experiments.attribution import attribute
    from circuit_claims.experiments.causal_tracing import trace
    from circuit_claims.experiments.logit_lens import logit_lens
    from circuit_claims.experiments.patching import patch
    from circuit_claims.heads import Head
    from circuit_claims.measure.measurement import Measurement
    from circuit_claims.measure.samples import Grid, Samples
    from circuit_claims.notebook import IOI, Acronyms, Contrast, Facts, GreaterThan, Induction, Successors, load
    from circuit_claims.subjects.subject import Subject
    from circuit_claims.tasks.metric import Metric

    __version__: str

_NOTEBOOK = "circuit_claims.notebook"
_HOMES = {
    "load": _NOTEBOOK,
    "IOI": _NOTEBOOK,
    "GreaterThan": _NOTEBOOK,
    "Acronyms": _NOTEBOOK,
    "Contrast": _NOTEBOOK,
    "Facts": _NOTEBOOK,
    "Induction": _NOTEBOOK,
    "Successors": _NOTEBOOK,
    "Subject": "circuit_claims.subjects.subject",
    "Card": "circuit_claims.cards.card",
    "Head": "circuit_claims.heads",
    "Measurement": "circuit_claims.measure.measurement",
    "Samples": "circuit_claims.measure.samples",
    "Metric": "circuit_claims.tasks.metric",
    "Grid": "circuit_claims.measure.samples",
    "attention": "circuit_claims.experiments.attention",
    "attribute": "circuit_claims.experiments.attribution",
    "logit_lens": "circuit_claims.experiments.logit_lens",
    "patch": "circuit_claims.experiments.patching",
    "trace": "circuit_claims.experiments.causal_tracing",
}

__all__ = [
    "IOI",
    "Acronyms",
    "Card",
    "Contrast",
    "Facts",
    "GreaterThan",
    "Grid",
    "Head",
    "Induction",
    "Measurement",
    "Metric",
    "Samples",
    "Subject",
    "Successors",
    "__version__",
    "attention",
    "attribute",
    "load",
    "logit_lens",
    "patch",
    "trace",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("circuit-claims")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return __all__
