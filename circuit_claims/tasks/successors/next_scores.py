"""Successor heads: heads that write the next member of a sequence, by their weights and by what they write.

Sources: Lan, Torr and Barez 2024 (seqcont_circuits, `allTasks_nextScores.ipynb`), the "next score" and a copy score beside it;
Gould, Ho and Conmy 2023 for the days. The next score is the copy score of Wang et al. 2022 with another word asked for: the
stream after block 0 at a member's position, through the head's layer norm, W_V with its bias and W_O, the final layer norm and
the unembedding; a hit where the next member is among the five highest logits, with a space before it or without. The authors'
EasyTransformer keeps the values' biases, which processed weights have lost: they are read from the checkpoint again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from circuit_claims.engine.weights import Weights
from circuit_claims.heads import Head
from circuit_claims.measure.grid_statistics import at_head
from circuit_claims.measure.measurement import Measurement
from circuit_claims.measure.samples import Grid
from circuit_claims.measure.store import SessionStore
from circuit_claims.prompts.batch import TokenizationError, name_token
from circuit_claims.prompts.sequences import DAY_PROMPT, DAYS, SHOWN, TASKS, Task
from circuit_claims.prompts.word_tokens import all_inside, is_unknown
from circuit_claims.subjects.subject import Subject
from circuit_claims.tasks.copy_suppression.task import weights_of
from circuit_claims.tasks.measuring import head_list
from circuit_claims.tasks.metric import as_array
from circuit_claims.tasks.operations.copy_score import HIGHEST
from circuit_claims.untested import Untested

#: What a member's row is searched for: the next member, or the member itself.
Asked = Literal["next", "copy"]


@dataclass(frozen=True, repr=False)
class Successors:
    """The heads of one subject on sequences."""

    subject: Subject
    prepend_bos: bool
    store: SessionStore = field(default_factory=SessionStore, repr=False)

    def __repr__(self) -> str:
        """Short: hypothesis prints a claim's arguments with a counterexample."""
        return f"sequences on {self.subject.name}"

    @property
    def model(self) -> Weights:
        """The weights.

        Raises Untested where they are not laid out as GPT-2's.
        """
        return weights_of(self.subject, "successor scores are")

    # By the weights

    def scores(self, task: str, asked: Asked = "next") -> Measurement:
        """For every head, how often the next member (or with "copy", the member itself) is among its five highest logits.

        A grid layer × head of rates over the members shown, prompt by prompt; without BOS, as published. The prompts are the
        whole population.

        Raises KeyError for an unknown task, and Untested where the tokenizer splits a member, or for architectures not GPT-2's.
        """
        return Measurement(lambda _: self._grid(task, asked), prepend_bos=False, limit=TASKS[task].prompts)

    def hits(self, head: Head, task: str, asked: Asked = "next") -> Measurement:
        """The number of members for which one head has a hit."""
        words, one = self.members(task), at_head(head)
        quantity = f"{asked} score of {head} on {task}"
        return self.scores(task, asked).of(lambda means: words * one(means), quantity, f"hits of {words}")

    def share_of_all_hits(self, head: Head, task: str) -> Measurement:
        """Of the hits that all heads have together, one head's share; none where there are none."""
        one = at_head(head)

        def share(means: Float[np.ndarray, "*resample layer head"]) -> Float[np.ndarray, "*resample"]:
            whole = means.sum((-2, -1))
            return np.divide(one(means), whole, out=np.zeros_like(whole), where=whole > 0)

        return self.scores(task).of(share, f"share of all heads' hits on {task} that are {head}'s", "share")

    def lead_over_copying(self, head: Head, task: str) -> Measurement:
        """One head's next score less its copy score."""
        following, copying = self.scores(task), self.scores(task, "copy")

        def take(n: int) -> Grid:
            grid, other = following.take(n), copying.take(n)
            return Grid(
                values=grid.values - other.values,
                quantity=f"next score less copy score on {task}",
                unit="rate",
                clusters=grid.clusters,
                row_labels=grid.row_labels,
                column_labels=grid.column_labels,
                marks=grid.marks,
                exact=True,
            )

        whole = Measurement(take, prepend_bos=False, limit=following.limit)
        return whole.of(at_head(head), f"next score less copy score of {head} on {task}", "rate")

    def members(self, task: str) -> int:
        """How many members all prompts of a task show together."""
        return SHOWN * TASKS[task].prompts

    def _grid(self, task: str, asked: Asked) -> Grid:
        hits = self._hits()[task]
        if isinstance(hits, str):
            raise Untested(hits)
        what = "the next member" if asked == "next" else "the member itself"
        return Grid.of_heads(
            values=hits[asked],
            quantity=f"{what} among the {HIGHEST} highest logits, on {task}",
            unit="rate",
            marks=self._marks,
            exact=True,
        )

    @property
    def _marks(self) -> list[tuple[int, int]]:
        families = self.subject.card.families
        return [(layer, head) for layer, head in families["successor"].heads] if "successor" in families else []

    @torch.inference_mode()
    def _hits(self) -> dict[str, dict[Asked, Float[np.ndarray, "prompt layer head"]] | str]:
        """The hits on all tasks, in one go: most of the work is the unembedding of every head, which they share."""
        return self.store.get("hits", self._measured_hits)

    def _measured_hits(self) -> dict[str, dict[Asked, Float[np.ndarray, "prompt layer head"]] | str]:
        found: dict = {}
        wanted: dict[Asked, list[list[int]]] = {"next": [], "copy": []}
        streams, sizes = [], {}
        for name, task in TASKS.items():
            try:
                tokens, words = self._tokens(task)
            except TokenizationError as error:
                found[name] = f"the {name} cannot be put to this subject: {error}"
                continue
            streams.append(self.subject.run(tokens).resid[1].flatten(0, 1))
            for asked in wanted:
                wanted[asked] += [self._forms(word) for pair in words for word in [pair[asked]]]
            sizes[name] = len(tokens)
        if streams:
            stacked = torch.cat(streams)
            hit: dict[Asked, list[Tensor]] = {asked: [] for asked in wanted}
            padded = {asked: self._padded(wanted[asked]) for asked in wanted}
            for layer in range(self.model.n_layers):
                for logits in self._logits(layer, stacked):
                    for asked in wanted:
                        hit[asked].append(_among_highest(logits, padded[asked]))
            first = 0
            for name, prompts in sizes.items():
                rows = slice(first, first + prompts * SHOWN)
                first = rows.stop
                found[name] = {asked: self._by_prompt(torch.stack(hit[asked], dim=1)[rows]) for asked in wanted}
        return found

    def _by_prompt(self, hit: Bool[Tensor, "member head"]) -> Float[np.ndarray, "prompt layer head"]:
        model = self.model
        shaped = hit.double().view(-1, SHOWN, model.n_layers, model.n_heads)
        return as_array(shaped.mean(1))

    def _tokens(self, task: Task) -> tuple[Tensor, list[dict[Asked, str]]]:
        """The prompts' tokens, `[prompt, 4]`, and for each member the words that are asked for.

        Raises TokenizationError where a member is not one token with a space before it, or a prompt's first without.
        """
        tokenizer, shown = self.subject.tokenizer, task.shown()
        for member in task.members:
            if not self._forms(member):
                raise TokenizationError(f"{member!r} is not one token for this tokenizer")
        ids = [tokenizer(task.text(members), add_special_tokens=False).input_ids for members in shown]
        if any(len(one) != SHOWN for one in ids):
            text = next(task.text(members) for members, one in zip(shown, ids, strict=True) if len(one) != SHOWN)
            raise TokenizationError(f"{text!r} is not {SHOWN} tokens for this tokenizer")
        words: list[dict[Asked, str]] = [
            {"next": task.nexts[member], "copy": task.members[member]} for members in shown for member in members
        ]
        return torch.tensor(ids, device=self.subject.device), words

    def _forms(self, word: str) -> list[int]:
        """The tokens that say a word, with a space before it and without; a word of several tokens has none."""
        tokenizer, found = self.subject.tokenizer, []
        for ids in all_inside(tokenizer, (" " + word, word)):
            if len(ids) == 1 and not is_unknown(tokenizer, ids[0], word) and ids[0] not in found:
                found.append(ids[0])
        return found

    def _padded(self, forms: Sequence[Sequence[int]]) -> tuple[Tensor, Bool[Tensor, "member form"]]:
        """Tokens `[member, 2]`, and which of them are there."""
        device = self.subject.device
        tokens = torch.tensor([[*form, 0, 0][:2] for form in forms], device=device)
        there = torch.tensor([[len(form) > i for i in range(2)] for form in forms], device=device)
        return tokens, there

    def _logits(self, layer: int, streams: Float[Tensor, "member d_model"]):
        """The logits of each head's OV circuit on the streams, head by head."""
        model, block, size = self.model, self.model.layers[layer], self.model.d_head
        gain, shift = model.ln_final
        folded, bias = gain[:, None] * model.W_U, shift @ model.W_U + model.b_U
        normed = F.layer_norm(streams, streams.shape[-1:], block.ln1[0], None, model.eps)
        biases = self._value_biases()[layer]
        for head in range(model.n_heads):
            first = (2 * model.n_heads + head) * size
            values = normed @ block.W_qkv[:, first : first + size] + biases[head]
            W_O = block.W_O[head * size : (head + 1) * size]
            written = values @ W_O
            scale = (written.var(-1, unbiased=False, keepdim=True) + model.eps).sqrt()
            # One thin product a head: the final layer norm is linear but for its scale.
            yield values @ ((W_O - W_O.mean(-1, keepdim=True)) @ folded) / scale + bias

    def _value_biases(self) -> Float[Tensor, "layer head d_head"]:
        """Every head's b_V with its layer norm's bias folded in; processing adds it to b_O, so that it is read anew."""
        return self.store.get("value biases", self._read_value_biases)

    def _read_value_biases(self) -> Float[Tensor, "layer head d_head"]:
        model = self.model
        if self.subject.mode == "raw":
            columns = slice(2 * model.n_heads * model.d_head, None)
            biases = [block.b_qkv[columns] + block.ln1[1] @ block.W_qkv[:, columns] for block in model.layers]
            return torch.stack(biases).unflatten(1, (model.n_heads, model.d_head))
        from circuit_claims.models.subject_error import SubjectError
        from circuit_claims.subjects.find import find_folder
        from circuit_claims.tasks.weights.attention_weights import read_attention_weights

        try:
            weights = read_attention_weights(find_folder(self.subject.settings.name))
        except SubjectError as error:
            raise Untested(f"the values' biases cannot be read from the checkpoint ({error}): run with --weights raw") from None
        return weights.b_V.to(model.W_E)

    # By what heads write

    def days(self) -> Measurement:
        """For every head, whether of the seven days it writes tomorrow's most at END of "If today is Monday, tomorrow is".

        A grid layer × head over the seven prompts, which are the whole population; what a head writes is read along the
        unembedding, through the final layer norm's gain alone.

        Raises Untested where a day is not one token.
        """
        return Measurement(lambda _: self.store.get(("days", self.prepend_bos), self._measured_days), self.prepend_bos, 7)

    def days_right(self, head: Head) -> Measurement:
        """The number of days after which one head writes the next one most."""
        one = at_head(head)
        return self.days().of(lambda means: len(DAYS) * one(means), f"days that {head} follows rightly", "days of 7")

    def most_days_right(self, but: Sequence[Head]) -> Measurement:
        """The same of the best of all heads but these."""

        def best(means: Float[np.ndarray, "*resample layer head"]) -> Float[np.ndarray, "*resample"]:
            others = means.copy()
            for layer, head in but:
                others[..., layer, head] = 0.0
            return len(DAYS) * others.max((-2, -1))

        return self.days().of(best, f"days that the best head but {head_list(but)} follows rightly", "days of 7")

    @torch.inference_mode()
    def _measured_days(self) -> Grid:
        model, tokenizer = self.subject.transformer, self.subject.tokenizer
        start = [tokenizer.bos_token_id] if self.prepend_bos else []
        try:
            days = torch.tensor([name_token(tokenizer, day) for day in DAYS], device=self.subject.device)
        except TokenizationError as error:
            raise Untested(f"the days cannot be put to this subject: {error}") from None
        texts = [DAY_PROMPT.format(day) for day in DAYS]
        ids = [start + tokenizer(text, add_special_tokens=False).input_ids for text in texts]
        if any(tokenizer.unk_token_id in one and tokenizer.unk_token_id not in start for one in ids):
            raise Untested(f"{texts[0]!r} has words that this tokenizer does not know: take GPT-2's")
        run = self.subject.run(torch.tensor(ids, device=self.subject.device))
        end = torch.full((len(DAYS), 1), run.tokens.shape[1] - 1, device=run.tokens.device)
        right = torch.arange(1, len(DAYS) + 1, device=run.tokens.device) % len(DAYS)
        hits = []
        for layer in range(model.n_layers):
            z = model.head_outputs_at(run, layer, end)[:, 0]
            for head in range(model.n_heads):
                written = model.frozen_norm(model.head_out(layer, z[:, head], head), run.resid[-1, :, -1])
                logits = written @ model.W_U[:, days]
                best = logits.max(-1, keepdim=True).values
                alone = (logits >= best).sum(-1) == 1  # a head that writes nothing ties all days
                hits.append((logits.argmax(-1) == right) & alone)
        values = torch.stack(hits, dim=1).double().view(len(DAYS), model.n_layers, model.n_heads)
        return Grid.of_heads(
            values=as_array(values),
            quantity="the next day is what the head writes most of the seven",
            unit="rate",
            clusters=range(len(DAYS)),
            marks=self._marks,
            exact=True,
        )


def _among_highest(
    logits: Float[Tensor, "member d_vocab"], wanted: tuple[Tensor, Bool[Tensor, "member form"]]
) -> Bool[Tensor, " member"]:
    """Whether a form of each word is among the five highest logits; a tie with the sixth does not count."""
    tokens, there = wanted
    own = logits.gather(1, tokens)
    ranks = torch.stack([torch.ge(logits, one[:, None]).sum(1) for one in own.T], dim=1)
    return ((ranks <= HIGHEST) & there).any(1)
