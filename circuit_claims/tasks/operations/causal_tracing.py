"""Causal tracing: corrupt the subject of a fact, put one clean state back, and see how much of the answer returns.

Source: Meng et al. 2022 ("Locating and Editing Factual Associations in GPT"), section 2. Two corruptions: Gaussian noise on the
subject's embeddings, three times as wide as these are spread (theirs; measured in probability of the right answer), and
another subject of as many tokens in the same phrasing (an interchange; measured in logits between the two right answers).

    effect of a state = score with the state restored − score corrupted
    total effect      = score clean − score corrupted

Shares of the total effect are ratios of means over prompts.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from circuit_claims.engine.edits import Edit, Site
from circuit_claims.engine.run import Run
from circuit_claims.heads import layer_labels
from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.samples import Grid, Shown
from circuit_claims.prompts.batch import Batch
from circuit_claims.prompts.roles import SUBJECT, TRACED_PARTS, TRACED_ROLES
from circuit_claims.tasks.measuring import clusters_of, in_order
from circuit_claims.tasks.metric import LOGIT_DIFFERENCE, PROBABILITY, Metric
from circuit_claims.tasks.task import Task

Corruption = Literal["interchange", "noise"]
#: What a corruption is measured in.
METRICS: dict[Corruption, Metric] = {"interchange": LOGIT_DIFFERENCE, "noise": PROBABILITY}
State = Literal["resid", "attn_out", "mlp_out"]
#: States and where they are: "resid" is the stream after a layer, as in the paper.
SITES: dict[State, Site] = {"resid": "resid_post", "attn_out": "attn_out", "mlp_out": "mlp_out"}
#: Noise is this many times as wide as embeddings are spread (section 2), and drawn this often for each prompt.
NOISE, DRAWS = 3.0, 3
#: Outputs of MLPs and of attention are restored this many layers at a time, of 48 (the paper's window, in GPT-2 XL).
WINDOW, OF_LAYERS = 10, 48


@dataclass(frozen=True, repr=False)
class CausalTracing(Task, ABC):
    """Causal tracing of prompts that know where their subject stands (`phrases`) and who else might stand there."""

    def total_effect(self, corruption: Corruption = "interchange") -> Measurement:
        """What corrupting the subject costs: of the logit difference (interchange), or of the answer's probability (noise).

        Raises ValueError for an unknown corruption, and for published prompts, which do not say where their subject stands.
        """
        self._check(corruption)
        quantity, unit = METRICS[corruption].name, METRICS[corruption].unit

        def measure(batch: Batch) -> np.ndarray:
            return self._traced(batch, corruption, None)[1]

        lost = self.samples(f"{quantity} lost by {corruption} of the subject", unit, measure)
        return lost.showing(self.costs(corruption)).presupposing(self._clean_score(corruption))

    def corrupted(self, corruption: Corruption = "interchange") -> Measurement:
        """The same quantity with the subject corrupted."""
        self._check(corruption)
        quantity, unit = METRICS[corruption].name, METRICS[corruption].unit

        def measure(batch: Batch) -> np.ndarray:
            return (
                self._score(batch, corruption, self._clean(batch).resid[-1][:, -1]) - self._traced(batch, corruption, None)[1]
            )

        return self.samples(f"{quantity} under {corruption} of the subject", unit, measure)

    def share(self, corruption: Corruption = "interchange") -> Measurement:
        """What corrupting the subject costs, as a share of the clean score: above 1 where it changes sign."""
        quantity, whole = METRICS[corruption].name, self._clean_score(corruption)
        return self.total_effect(corruption).share_of(whole, f"share of the {quantity} lost by {corruption} of the subject")

    def _clean_score(self, corruption: Corruption) -> Measurement:
        quantity, unit = METRICS[corruption].name, METRICS[corruption].unit

        def measure(batch: Batch) -> np.ndarray:
            return self._score(batch, corruption, self._clean(batch).resid[-1][:, -1])

        return self.samples(f"{quantity} of known facts", unit, measure).showing(Shown(self.metric.shows))

    def trace(self, state: State = "resid", *, corruption: Corruption = "interchange") -> Measurement:
        """The share of the total effect that each state restores by itself: a grid layer × role of its token.

        Where several tokens are of one role, each is restored by itself, and their effects are averaged, over prompts that have
        such a token. Outputs of MLPs and attention are restored in a window of layers round the one that is named (see
        `window`).
        """
        return self._trace_grid(
            f"effect of restoring {_named(state)}", corruption, self._tracing(state, corruption), TRACED_ROLES
        )

    def trace_parts(self, *, corruption: Corruption = "interchange") -> Measurement:
        """The share of the total effect that MLP outputs and attention outputs restore, at the subject's last token and at END.

        A grid layer × `TRACED_PARTS`, in windows of layers as for `trace`.
        """

        def measure(batch: Batch) -> np.ndarray:
            states: tuple[State, ...] = ("mlp_out", "attn_out")
            wheres = [batch.at(role) for role in ("last subject token", "END")]
            edits = [its for where in wheres for state in states for its in self._restoring(batch, state, where)]
            effects, whole = self._traced(batch, corruption, edits)
            columns = len(wheres) * len(states)
            cells = effects.reshape(len(whole), columns, -1).swapaxes(1, 2)
            return _packed(cells, np.ones((len(whole), columns)), whole)

        return self._trace_grid("effect of restoring outputs", corruption, measure, TRACED_PARTS)

    def trace_both(self) -> Measurement:
        """The effects of the stream's states under both corruptions side by side, each in its own unit.

        A grid layer × twelve columns: `TRACED_ROLES` under interchange, and again under noise.
        """

        def take(n: int) -> Grid:
            both = [self.trace(corruption=corruption).take(n) for corruption in METRICS]
            return Grid(
                values=np.concatenate([grid.values for grid in both], axis=2),
                quantity="effects of restoring the stream under interchange and under noise",
                unit="logits and probability",
                clusters=both[0].clusters,
                row_labels=both[0].row_labels,
                column_axis="token",
                column_labels=[f"{role}, {corruption}" for corruption in METRICS for role in TRACED_ROLES],
                drawn=_beside(*both),
            )

        return Measurement(take, self.prepend_bos, self.limit).presupposing(self.total_effect("noise"))

    def window(self, state: State) -> int:
        """How many layers are restored at a time: one of the stream's, of outputs as many for this depth as 10 are for 48."""
        n_layers = self.subject.transformer.n_layers
        return 1 if state == "resid" else max(1, round(WINDOW * n_layers / OF_LAYERS))

    # How it is measured

    def effects_at(
        self, batch: Batch, state: State, corruption: Corruption, positions: Sequence[int]
    ) -> tuple[Float[np.ndarray, "prompt position layer"], Float[np.ndarray, " prompt"]]:
        """The effect of each layer's state, restored with its window's at each of these positions; and the total effect."""
        wheres = [torch.full_like(batch.positions["END"], position)[:, None] for position in positions]
        edits = [its for where in wheres for its in self._restoring(batch, state, where)]
        effects, whole = self._traced(batch, corruption, edits)
        return effects.reshape(len(whole), len(positions), -1), whole

    def _tracing(self, state: State, corruption: Corruption) -> Callable[[Batch], np.ndarray]:
        def measure(batch: Batch) -> np.ndarray:
            length, first = batch.tokens.shape[1], int(batch.positions["first subject token"].min())
            # Nothing before the subject is corrupted.
            by_position, whole = self.effects_at(batch, state, corruption, range(first, length))
            shares = _tokens_of_roles(batch)
            return _packed(np.einsum("npl,nrp->nlr", by_position, shares[:, :, first:]), np.asarray(shares.any(-1)), whole)

        return measure

    def _restoring(self, batch: Batch, state: State, where: Tensor) -> list[list[Edit]]:
        """For each layer, the edits that put its clean state (with its window's) back at a position of each prompt."""
        model, run = self.subject.transformer, self._clean(batch)
        rows = torch.arange(len(where), device=where.device)[:, None]
        n_layers, width = model.n_layers, self.window(state)
        if state == "resid":
            values = [run.resid[layer + 1][rows, where] for layer in range(n_layers)]
        else:
            values = [self._written(batch, state)[layer][rows, where] for layer in range(n_layers)]
        edits = [Edit(layer, SITES[state], values[layer], None, where) for layer in range(n_layers)]
        return [edits[max(0, layer - width // 2) : layer - width // 2 + width] for layer in range(n_layers)]

    def _written(self, batch: Batch, state: State) -> Float[Tensor, "layer prompt pos d_model"]:
        """What every layer's MLP or attention writes on the clean prompts."""
        model, run = self.subject.transformer, self._clean(batch)

        def make() -> Tensor:
            outs = []
            for layer in range(model.n_layers):
                attention = model.attention(layer, run.resid[layer]).out
                outs.append(attention if state == "attn_out" else model.mlp_out(layer, run.resid[layer] + attention))
            return torch.stack(outs)

        place = ("written", state, batch.tokens.shape, batch.tokens.cpu().numpy().tobytes())
        return self.store.get(place, make)

    def _traced(
        self, batch: Batch, corruption: Corruption, interventions: Sequence[Sequence[Edit]] | None
    ) -> tuple[Float[np.ndarray, "prompt intervention"], Float[np.ndarray, " prompt"]]:
        """The effect of each intervention on the corrupted run, and the total effect; with None, no effects."""
        clean = self._score(batch, corruption, self._clean(batch).resid[-1][:, -1])
        runs = self._corrupted_runs(batch, corruption)
        effects, wholes = [], []
        for run in runs:
            before = self._score(batch, corruption, run.resid[-1][:, -1])
            wholes.append(clean - before)
            if interventions is not None:
                restored = self.subject.transformer.intervene(run, interventions)
                effects.append((self._score(batch, corruption, restored) - before).T)
        return np.mean(effects, axis=0) if effects else np.empty((len(clean), 0)), np.mean(wholes, axis=0)

    def _check(self, corruption: str) -> None:
        if corruption not in METRICS:
            raise ValueError(f"unknown corruption {corruption!r}: use one of {', '.join(METRICS)}")
        if self.fixed:
            raise ValueError("published prompts do not say where their subject stands: trace drawn ones")

    def _clean(self, batch: Batch) -> Run:
        return self.subject.run(batch.tokens)

    def _corrupted_runs(self, batch: Batch, corruption: Corruption) -> list[Run]:
        """The runs that a state is put back into: of the partners' prompts, or of each draw of noise."""
        if corruption == "interchange":
            (partners,) = self.batches([prompt.changed("interchange") for prompt in batch.prompts])
            return [self.subject.run(partners.tokens)]
        clean = self._clean(batch)

        def make() -> list[Run]:
            embedded = (clean.resid[0] + self._noise(batch, draw) for draw in range(DRAWS))
            return [self.subject.transformer.run(batch.tokens, embedded=stream) for stream in embedded]

        place = ("noised", self.seed, self.spread, DRAWS, batch.tokens.shape, batch.tokens.cpu().numpy().tobytes())
        return self.store.get(place, make)

    def _noise(self, batch: Batch, draw: int) -> Float[Tensor, "prompt pos d_model"]:
        """Noise on the subject's tokens, of each prompt by itself: it does not depend on what it is batched with."""
        noise = torch.zeros(*batch.tokens.shape, self.subject.transformer.d_model, dtype=torch.float64)
        ends = zip(batch.positions["first subject token"].tolist(), batch.positions["last subject token"].tolist(), strict=True)
        for row, (prompt, (first, last)) in enumerate(zip(batch.prompts, ends, strict=True)):
            seed = hashlib.sha256(f"{self.seed}|{draw}|{prompt.text}".encode()).digest()[:8]
            random = np.random.default_rng(int.from_bytes(seed, "big"))
            noise[row, first : last + 1] = torch.from_numpy(random.standard_normal((last + 1 - first, noise.shape[2])))
        return (NOISE * self.spread * noise).to(self._clean(batch).resid)

    @property
    @abstractmethod
    def spread(self) -> float:
        """How far embeddings are spread: the standard deviation of all numbers in those of the task's subjects."""

    def _score(self, batch: Batch, corruption: Corruption, resid: Float[Tensor, "*n prompt d_model"]) -> np.ndarray:
        """What a corruption is measured in, from final streams at END: `[*n, prompt]`."""
        return METRICS[corruption].of_streams(self.subject.transformer, resid, batch)

    def _trace_grid(
        self, quantity: str, corruption: Corruption, measure: Callable[[Batch], np.ndarray], columns: Sequence[str]
    ) -> Measurement:
        n_layers, names = self.subject.transformer.n_layers, f"{quantity} ({corruption})"

        def take(n: int) -> Grid:
            prompts = self.prompts(n)
            packed = self._in_chunks((quantity, corruption), lambda some: in_order(self.batches(some), measure), prompts)
            there = packed[:, -1 - len(columns) : -1].mean(0)  # of a role, the share of prompts that have it
            return Grid(
                values=packed[:, : -1 - len(columns)].reshape(len(prompts), n_layers, len(columns)),
                weights=packed[:, -1],
                whole_unit=METRICS[corruption].unit,
                whole_shown=self.costs(corruption),
                denominator=self._clean_score(corruption).take(n),
                quantity=names,
                unit="share of the total effect",
                clusters=clusters_of(prompts),
                row_labels=layer_labels(n_layers),
                column_axis="token",
                column_labels=columns,
                shown=lambda means: means / np.where(there > 0, there, 1),
                shown_labels=columns,
            )

        return Measurement(take, self.prepend_bos, self.limit, whole=self.total_effect(corruption))


def _tokens_of_roles(batch: Batch) -> Float[np.ndarray, "prompt role pos"]:
    """For each role the tokens that are of it, each with its share; a role that a prompt has not, has nothing."""
    first, last, end = (
        batch.positions[name].cpu().numpy()[:, None] for name in (TRACED_ROLES[0], TRACED_ROLES[SUBJECT], "END")
    )
    at = np.arange(batch.tokens.shape[1])
    is_one = [at == first, (first < at) & (at < last), at == last, at == last + 1, (last + 1 < at) & (at < end), at == end]
    shares = np.zeros((len(batch.prompts), len(TRACED_ROLES), len(at)))
    for role, there in enumerate(is_one):
        shares[there.nonzero()[0], :, there.nonzero()[1]] = np.arange(len(TRACED_ROLES)) == role
    tokens = shares.sum(-1, keepdims=True)
    return np.divide(shares, tokens, out=shares, where=tokens > 0)


def _packed(cells: np.ndarray, there: np.ndarray, whole: np.ndarray) -> Float[np.ndarray, "prompt number"]:
    """Cells, which columns there are, and the total effect, in one row a prompt."""
    return np.concatenate([cells.reshape(len(whole), -1), there, whole[:, None]], axis=1)


def _named(state: State) -> str:
    return {"resid": "the stream after a layer", "mlp_out": "MLP outputs", "attn_out": "attention outputs"}[state]


def _beside(interchange: Grid, noise: Grid) -> dict[str, Any]:
    """A cell a point: what it restores under one corruption and under the other, as shares."""
    a, b = (grid.as_shown for grid in (interchange, noise))
    points = [
        {"label": f"L{layer}, {role}", "x": float(a[layer, column]), "y": float(b[layer, column])}
        for layer in range(a.shape[0])
        for column, role in enumerate(TRACED_ROLES)
    ]
    return {
        "kind": "scatter",
        "title": "what restoring the stream restores: interchange against noise",
        "x_axis": "share restored, interchange",
        "y_axis": "share restored, noise",
        "points": points,
        "r": float(np.corrcoef(a.ravel(), b.ravel())[0, 1]),
    }
