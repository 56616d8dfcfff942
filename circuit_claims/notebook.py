"""What a notebook begins with: a model, and the tasks that can be put to it with one argument.

    import circuit_claims as cc

    model = cc.load("mini")
    cc.IOI(model).logit_difference().take(60)

A task's function makes it on the half of the prompts that verdicts are given on, as the fixture of a claim does. Where nothing
else is said, prompts begin with BOS where the model was loaded so, and in the tasks that were published with it.
"""

from typing import Any

from circuit_claims.prompts import acronyms, facts, greater_than, ioi
from circuit_claims.prompts.contrasts.population import Contrasts
from circuit_claims.prompts.source import Half
from circuit_claims.subjects.find import choose
from circuit_claims.subjects.subject import Settings, Subject, prepare
from circuit_claims.tasks.acronyms import task as acronym_task
from circuit_claims.tasks.contrast import task as contrast_task
from circuit_claims.tasks.facts import task as facts_task
from circuit_claims.tasks.greater_than import task as greater_than_task
from circuit_claims.tasks.induction import task as induction_task
from circuit_claims.tasks.ioi import task as ioi_task
from circuit_claims.tasks.metric import Metric
from circuit_claims.tasks.successors import next_scores
from circuit_claims.threads import use_few_threads

#: How many prompts are measured at a time, as for a claim.
CHUNK = 120


def load(
    name: str = "auto",
    *,
    card: str | None = None,
    device: str = "auto",
    dtype: str = "float32",
    weights: str = "processed",
    prepend_bos: bool | None = None,
    names: str | None = None,
    max_memory: float = 1.0,
) -> Subject:
    """A model with its tokenizer and its card: `mini` (embedded), `gpt2`, any other hub id, a folder, a GGUF file,
    or a control (`planted`).

    The other arguments are the options of the same names that pytest takes; prepend_bos is `--bos`: None is as the tokenizer
    does. A model that no card goes with has an empty one,
    which names no heads: find them with `circuit-claims discover`.

    Raises SubjectError, with one sentence, where there is no such model or it cannot be measured.
    """
    settings = Settings(
        name=choose(name)[0],
        card=card,
        device=device,
        dtype=dtype,
        mode=weights,
        prepend_bos=prepend_bos,
        names_file=names,
        max_memory=int(max_memory * 1e9),
    )
    prepared = prepare(settings)
    use_few_threads(prepared.folder.n_parameters)
    return Subject(prepared)


def IOI(model: Subject, *, seed: int = 0, prepend_bos: bool | None = None) -> ioi_task.IOI:
    """Indirect object identification (Wang et al. 2022), with the names that the model's tokenizer knows."""
    population = ioi.Population(names=model.names)
    return ioi_task.IOI(subject=model, seed=seed, chunk=CHUNK, population=population, prepend_bos=_bos(model, prepend_bos))


def GreaterThan(model: Subject, *, seed: int = 0, prepend_bos: bool = True) -> greater_than_task.GreaterThan:
    """Year spans (Hanna et al. 2023), with the years that the model's tokenizer splits into two tokens."""
    population = greater_than.years_for(model.tokenizer)
    return greater_than_task.GreaterThan(subject=model, seed=seed, chunk=CHUNK, population=population, prepend_bos=prepend_bos)


def Acronyms(model: Subject, *, seed: int = 0, prepend_bos: bool = True) -> acronym_task.AcronymTask:
    """Three-letter acronyms (García-Carrasco et al. 2024), of the words that the model's tokenizer has."""
    population = acronyms.acronyms_for(model.tokenizer)
    return acronym_task.AcronymTask(subject=model, seed=seed, chunk=CHUNK, population=population, prepend_bos=prepend_bos)


def Facts(model: Subject, *, seed: int = 0, prepend_bos: bool | None = None) -> facts_task.Facts:
    """Facts that the model knows, and causal tracing (Meng et al. 2022)."""
    bos = _bos(model, prepend_bos)
    return facts_task.Facts(subject=model, seed=seed, chunk=CHUNK, population=facts.FactList(), prepend_bos=bos)


def Induction(model: Subject, *, seed: int = 0, prepend_bos: bool | None = None) -> induction_task.Induction:
    """Random tokens, repeated (Olsson et al. 2022): scores of heads, losses and interventions."""
    return induction_task.Induction(subject=model, seed=seed, prepend_bos=_bos(model, prepend_bos))


def Successors(model: Subject, *, prepend_bos: bool | None = None) -> next_scores.Successors:
    """Heads that write the next member of a sequence (Gould et al. 2023)."""
    return next_scores.Successors(subject=model, prepend_bos=_bos(model, prepend_bos))


def Contrast(
    model: Subject,
    pairs: Any,
    *,
    metric: str | Metric = "logit difference",
    half: Half | None = None,
    dealt: bool = False,
    space: bool = True,
    marks: bool = True,
    split: str = "train",
    encoding: str | None = None,
    seed: int = 0,
    prepend_bos: bool | None = None,
) -> contrast_task.ContrastTask:
    """Prompts of one's own, in pairs with their answers: the columns clean, corrupted, answer, foil, and cluster, if any.

    pairs: a file (.csv, .tsv, .jsonl, .parquet), a folder that a data set was saved to, `hf:owner/name`, a list of dicts, a
    pandas frame or a `datasets.Dataset`. metric: logit difference, probability, probability difference, rank, KL, or a
    `Metric` of your own. half: of the clusters, None for all. dealt: a control, answers dealt out anew. space: whether answers
    follow a space. marks: whether `[word: hot]` in a text marks a position. split: of a data set; encoding: of a text file.

    Raises PairsError, with one sentence, where the pairs cannot be used.
    """
    options = {"marks": marks, "split": split, "encoding": encoding}
    population = Contrasts.of(pairs, half=half, dealt=dealt, space=space, **options)
    population.check()
    return contrast_task.ContrastTask.of(
        model, population, metric=metric, seed=seed, chunk=CHUNK, prepend_bos=_bos(model, prepend_bos)
    )


def _bos(model: Subject, prepend_bos: bool | None) -> bool:
    return model.prepend_bos if prepend_bos is None else prepend_bos
