"""Where a result comes from: model, weights, settings, tokens, versions."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from circuit_claims import __version__
from circuit_claims.experiments.reading import Prompt
from circuit_claims.subjects.subject import Subject


@dataclass(frozen=True)
class Provenance:
    """What an experiment was made of and with.

    prompts: by what each is called; arguments: what else was asked for; date: when it was made, in UTC.
    """

    facts: Mapping[str, Any]
    prompts: Mapping[str, Prompt]
    arguments: Mapping[str, Any]
    seed: int
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @classmethod
    def of(cls, model: Subject, prompts: Mapping[str, Prompt], seed: int = 0, **arguments: Any) -> "Provenance":
        """Of an experiment on a model, made now."""
        facts = model.facts()
        facts["versions"] = {"circuit-claims": __version__, "python": platform.python_version()} | facts["versions"]
        facts |= {"dtype": str(model.dtype).removeprefix("torch."), "device": str(model.device)}
        return cls(facts, prompts, arguments, seed)

    @property
    def subject(self) -> str:
        """The model's name."""
        return self.facts["subject"]

    def to_json(self, command: str | None = None) -> dict[str, Any]:
        """command: the command line, where it was one; else a library call is said."""
        facts = dict(self.facts)
        versions = facts.pop("versions")
        return {
            "command": command or "a call of the library",
            "date": self.date,
            **facts,
            "prepend_bos": next(iter(self.prompts.values())).prepend_bos,
            "seed": self.seed,
            "arguments": dict(self.arguments),
            "prompts": {
                name: {"text": prompt.text, "tokens": [token.to_json() for token in prompt.tokens]}
                for name, prompt in self.prompts.items()
            },
            "versions": versions,
        }
