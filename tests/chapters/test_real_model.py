"""A real pretrained model, SmolLM2-135M-Instruct in 4 bits, where it has been fetched (`make smollm2`).

It has 30 layers of 9 heads on 3 keys and values. Expected numbers were measured with plain hooks on transformers' own model, by
another hand.
"""

import itertools

import pytest
import torch

from circuit_claims.engine.decoder.module_decoder import ModuleDecoder
from circuit_claims.engine.edits import Edit
from circuit_claims.heads import Head
from circuit_claims.models.subject_error import SubjectError
from circuit_claims.prompts.ioi import Population
from circuit_claims.subjects.faithful_boot import load_model
from circuit_claims.subjects.find import find_folder
from circuit_claims.subjects.subject import Settings, Subject, prepare
from circuit_claims.tasks.ioi.task import IOI

NAMES = ("John", "Mary", "Tom", "James", "Dan", "Martin", "Alan", "Chris")
PAIRS = list(itertools.combinations(NAMES, 2))[:16]
OPENING = "When {} and {} went to the store, {} gave a drink to"
#: The five heads whose output at END restores most of the answer.
STRONGEST = {Head(23, 3), Head(29, 1), Head(20, 0), Head(19, 2), Head(23, 0)}


@pytest.fixture(scope="module")
def smollm2() -> Subject:
    try:
        return Subject(prepare(Settings(name="smollm2", mode="raw", device="cpu")))
    except SubjectError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def prompts(smollm2: Subject) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Clean and corrupted (the names of the second clause swapped), and the two names."""

    def tokens(texts: list[str]) -> torch.Tensor:
        return torch.tensor(smollm2.tokenizer(texts, add_special_tokens=False).input_ids)

    clean, corrupted = (tokens([OPENING.format(*pair, pair[who]) for pair in PAIRS]) for who in (1, 0))
    return clean, corrupted, torch.cat([tokens([f" {pair[who]}" for pair in PAIRS]) for who in (0, 1)], dim=1)


def test_it_runs_on_its_own_modules(smollm2):
    assert isinstance(smollm2.transformer, ModuleDecoder) and smollm2.choice.remark == ""
    assert (smollm2.transformer.n_layers, smollm2.transformer.n_heads, smollm2.transformer.n_kv_heads) == (30, 9, 3)
    assert not smollm2.prepend_bos, "its tokenizer puts no BOS first"


@pytest.mark.parametrize(("bos", "n", "mean"), [(False, 40, 5.93), (False, 120, 5.42), (True, 40, 4.99)])
def test_the_mean_logit_difference_is_the_one_measured_elsewhere(smollm2, bos, n, mean):
    ioi = IOI(subject=smollm2, seed=0, chunk=120, population=Population(names=smollm2.names), prepend_bos=bos)
    found = ioi.logit_difference().take(n).values
    assert found.mean() == pytest.approx(mean, abs=0.005)
    if n == 40 and not bos:
        assert (found > 0).all()


@torch.inference_mode()
def test_heads_at_end_restore_what_a_plain_loop_finds(smollm2, prompts):
    """Every head's share; and three of them as passes of transformers' own model with one hook."""
    engine, (clean, corrupted, answers) = smollm2.transformer, prompts
    source, base, end = engine.run(clean), engine.run(corrupted), torch.full((16, 1), 13)
    z = [engine.head_outputs_at(source, layer, end) for layer in range(30)]
    heads = [Head(layer, head) for layer in range(30) for head in range(9)]
    edits = [[Edit(at.layer, "z", z[at.layer][:, :, at.head], at.head, end)] for at in heads]

    def difference(logits: torch.Tensor) -> torch.Tensor:
        return (logits[..., 0] - logits[..., 1]).mean(-1)

    patched = difference(engine.answer_logits(engine.intervene(base, edits), answers))
    best, worst = (difference(engine.answer_logits(run.resid[-1][:, -1], answers)) for run in (source, base))
    shares = (patched - worst) / (best - worst)
    top = [heads[index] for index in shares.topk(5).indices.tolist()]
    assert top[0] == Head(23, 3) and set(top) == STRONGEST

    own = load_model(find_folder("smollm2").path, torch.float32)
    for head in (Head(23, 3), Head(29, 1), Head(3, 5)):
        width = slice(head.head * 64, head.head * 64 + 64)

        def put(module, args, head=head, width=width):
            changed = args[0].clone()
            changed[:, -1, width] = z[head.layer][:, 0, head.head]
            return (changed,)

        handle = own.model.layers[head.layer].self_attn.o_proj.register_forward_pre_hook(put)
        logits = own(input_ids=corrupted, use_cache=False, logits_to_keep=1).logits[:, -1].gather(1, answers)
        handle.remove()
        assert float(difference(logits)) == pytest.approx(float(patched[heads.index(head)]), abs=1e-4)
