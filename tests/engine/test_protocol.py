"""Every method and attribute of the protocol on all engines, over one model: the same numbers, or a reason why not."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from circuit_claims.engine.decoder.module_decoder import ModuleDecoder
from circuit_claims.engine.decoder.transformer import Transformer
from circuit_claims.engine.edits import Edit, Site
from circuit_claims.engine.hooked.decoder import HookedDecoder
from circuit_claims.engine.paths import Part, Receivers
from circuit_claims.engine.protocol import Engine
from circuit_claims.engine.unsupported import Unsupported
from circuit_claims.heads import Head
from circuit_claims.subjects.subject import Settings, Subject, prepare
from circuit_claims.untested import Untested
from tests.conftest import HEADS, LAYERS, WIDTH
from tests.support.tiny_models import save_tiny_card, save_tiny_gpt2

ANSWERS = torch.tensor([[7, 11], [11, 7], [30, 42], [5, 199], [64, 65]])
ALL, END = torch.arange(9).expand(5, 9), torch.full((5, 1), 8)
SENDERS = [[Head(0, 1)], [Head(0, 3), Head(1, 2)], [Head(2, 0)], []]
INTO_KEYS = Receivers((Head(1, 0), Head(2, 3)), "k")
#: Attributes whose values are told apart below: which of the engines knows more is no number of the model.
OWN = {"linear_logits"}


@pytest.fixture(scope="module", params=["raw", "processed"])
def every_engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Engine]:
    """GPT-2's shape in double precision, computed from plain tensors, by its own modules, and through hooks.

    A type checker sees here, too, that all classes satisfy the protocol.
    """
    folder = tmp_path_factory.mktemp("protocol") / "tiny"
    save_tiny_gpt2(folder, n_layer=LAYERS, n_head=HEADS, n_embd=WIDTH)
    card = save_tiny_card(folder.parent / "card.toml", n_layer=LAYERS, n_head=HEADS)
    settings = Settings(name=str(folder), card=str(card), mode=request.param, dtype="float64", device="cpu")
    bridge = Subject(prepare(settings)).bridge
    plain: Engine = Transformer(bridge)
    modules: Engine = ModuleDecoder(bridge)
    hooked: Engine = HookedDecoder(bridge)
    for engine in (plain, modules, hooked):
        with torch.inference_mode():
            engine.check_against(bridge, torch.arange(2, 10)[None], 1e-6)
    return {"plain": plain, "modules": modules, "hooks": hooked}


@pytest.fixture(params=["modules", "hooks"])
def engines(request: pytest.FixtureRequest, every_engine: dict[str, Engine]) -> tuple[Engine, Engine]:
    """The one of plain tensors, and another."""
    return every_engine["plain"], every_engine[request.param]


class Given:
    """What a method is called with: made by the plain engine alone, so that both get the same."""

    def __init__(self, plain: Engine, clean: Tensor, corrupted: Tensor) -> None:
        self.tokens = corrupted
        self.clean, self.corrupted = plain.run(clean), plain.run(corrupted)
        self.inside = plain.attention(1, self.clean.resid[1])
        self.mid = self.clean.resid[1] + self.inside.out
        self.edits = [
            [Edit(1, "z", self.inside.z[:, :, 2], 2)],
            [Edit(1, "pattern", self.inside.pattern[:, 0], 0), Edit(2, "resid_pre", self.clean.resid[2][:, 8:], None, END)],
            [Edit(0, "mlp_out", torch.zeros_like(self.mid))],
        ]
        self.knocked_out = [Edit(0, "z", torch.zeros(5, 1, plain.d_head, dtype=torch.float64), 3, END)]


def edited(edits: list[Edit]) -> list[Tensor]:
    """Edits as numbers, in one order."""
    found = sorted(edits, key=lambda edit: (edit.layer, edit.head))
    return [torch.tensor([[edit.layer, edit.head] for edit in found]), *(edit.value for edit in found)]


def parts(found: Any) -> list[Tensor]:
    """A trace, what is written, or attributions, as tensors."""
    fields = found if isinstance(found, dict) else vars(found)
    return [value if isinstance(value, Tensor) else torch.stack(list(value)) for _, value in sorted(fields.items())]


def constants(value: Tensor) -> dict[tuple[int, Site], Tensor]:
    """What an attention layer and an MLP write in place of what they would."""
    return {(1, "attn_out"): value, (2, "mlp_out"): value}


#: Each method, as it is called, and what comes out as tensors.
METHODS: dict[str, Callable[[Engine, Given], list[Tensor]]] = {
    "run": lambda engine, given: [
        engine.run(given.tokens).resid,
        engine.run(given.tokens, keep=True, embedded=given.clean.resid[0]).resid,
    ],
    "stop_at_layer": lambda engine, given: [engine.stop_at_layer(given.tokens, layer) for layer in range(LAYERS + 1)],
    "start_at_layer": lambda engine, given: [
        engine.start_at_layer(given.clean.resid[layer], layer) for layer in range(LAYERS + 1)
    ],
    "logits": lambda engine, given: [engine.logits(given.clean.resid[-1])],
    "answer_logits": lambda engine, given: [engine.answer_logits(given.clean.resid[:, :, -1], ANSWERS)],
    "frozen_norm": lambda engine, given: [engine.frozen_norm(given.mid, like) for like in (given.clean.resid[-1], None)],
    "direct_logits": lambda engine, given: [engine.direct_logits(given.mid[0])],
    "token_embeddings": lambda engine, given: [engine.token_embeddings(torch.arange(20, 40))],
    "attention": lambda engine, given: [
        getattr(engine.attention(1, given.clean.resid[1]), part) for part in ("q", "k", "v", "pattern", "z", "out")
    ],
    "head_input": lambda engine, given: [engine.head_input(1, given.mid, 2, which) for which in "qkv"],
    "head_inputs": lambda engine, given: [
        engine.head_inputs(1, which, torch.stack([given.mid * (1 + head) for head in range(HEADS)])) for which in "qkv"
    ],
    "attend": lambda engine, given: [engine.attend(1, given.inside.k, given.inside.v, given.inside.q)],
    "head_outs": lambda engine, given: [engine.head_outs(1, given.inside.z)],
    "mlp": lambda engine, given: [engine.mlp(1, given.mid)],
    "head_outputs_at": lambda engine, given: [engine.head_outputs_at(given.clean, 2, ALL[:, 3:6])],
    "head_out": lambda engine, given: [engine.head_out(1, given.inside.z[:, :, 3], 3)],
    "mlp_out": lambda engine, given: [engine.mlp_out(1, given.mid)],
    "pattern_with_keys": lambda engine, given: [
        engine.pattern_with_keys(given.corrupted, Edit(1, "k", given.inside.k[:, :, 1], 1))
    ],
    "intervene": lambda engine, given: [
        engine.intervene(given.corrupted, given.edits),
        engine.intervene(given.corrupted, given.edits, memory=1),
        engine.intervene(given.corrupted, given.edits[:1], start=4),
    ],
    "final_stream": lambda engine, given: [engine.final_stream(given.corrupted, edits) for edits in [*given.edits, []]],
    "trace": lambda engine, given: [
        part for edits in ([], given.knocked_out) for part in parts(engine.trace(given.clean, ALL[:, 2:], edits))
    ],
    "written_at": lambda engine, given: [
        part for edits in ([], given.knocked_out) for part in parts(engine.written_at(given.clean, ALL[:, 2:], edits))
    ],
    "path_patch": lambda engine, given: [
        engine.path_patch(given.corrupted, given.clean, SENDERS, None, END),
        engine.path_patch(given.corrupted, given.clean, SENDERS, None, END, mlps="frozen", knocked_out=given.knocked_out),
        engine.path_patch(given.corrupted, given.clean, SENDERS, INTO_KEYS, ALL, memory=1),
    ],
    "receiver_inputs": lambda engine, given: edited(
        engine.receiver_inputs(given.corrupted, given.clean, SENDERS[1], INTO_KEYS, ALL)
    ),
    "path_patch_parts": lambda engine, given: [
        engine.path_patch_parts(given.corrupted, given.clean, [[Part(0, 1), Part(1)], [Part(0)]], through)
        for through in ((), (1, 2))
    ],
    "weights": lambda engine, given: [layer.W_qkv for layer in engine.weights().layers],
    "attributions": lambda engine, given: parts(engine.attributions(given.clean, given.corrupted, ANSWERS)),
    "receiver_gradients": lambda engine, given: [
        part
        for replaced in (None, constants(given.mid))
        for part in parts(
            engine.receiver_gradients(
                given.clean.resid[0], lambda end: engine.answer_logits(end, ANSWERS.clone())[:, 0], replaced
            )
        )
    ],
    "head_products": lambda engine, given: [
        engine.head_products(
            1,
            torch.stack([given.mid, given.corrupted.resid[2], given.clean.resid[1]], 1),
            [
                engine.receiver_gradients(run.resid[0], lambda end: engine.answer_logits(end, ANSWERS.clone())[:, 0])
                for run in (given.clean, given.corrupted)
            ],
            inputs,
        )
        for inputs in (("q", "k", "v"), "v")
    ],
}
#: What the others cannot do.
NOT_DONE: dict[type, dict[str, str]] = {
    ModuleDecoder: {"weights": "not laid out as GPT-2's"},
    HookedDecoder: {
        "weights": "not laid out as GPT-2's",
        "attributions": "take a subject of that shape",
        "receiver_gradients": "hooks, which keep no gradients",
        "head_products": "hooks, which keep no gradients",
    },
}


def members() -> tuple[set[str], set[str]]:
    """The protocol's methods and its attributes."""
    methods = {name for name, value in vars(Engine).items() if inspect.isfunction(value) and not name.startswith("_")}
    return methods, set(Engine.__annotations__)


def test_every_method_of_the_protocol_is_compared():
    assert members()[0] == METHODS.keys() | {"needs", "check_against"}


@pytest.mark.parametrize("name", METHODS)
@torch.inference_mode()
def test_all_engines_give_the_same(engines, pair, name):
    plain, other = engines
    given = Given(plain, *pair)
    ours = METHODS[name](plain, given)
    assert max(float(part.abs().max()) for part in ours) > 1e-2, "there is nothing to compare"
    if reason := NOT_DONE[type(other)].get(name):
        with pytest.raises(Unsupported, match=reason):
            METHODS[name](other, given)
        return
    theirs = METHODS[name](other, given)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert (a - b).abs().max() < 1e-5


def test_all_engines_say_the_same_of_the_model(engines):
    plain, other = engines
    for name in members()[1] - OWN:
        ours, theirs = getattr(plain, name), getattr(other, name)
        assert torch.equal(ours, theirs) if isinstance(ours, Tensor) else ours == theirs, name
    assert plain.linear_logits and other.linear_logits is not isinstance(other, HookedDecoder)
    assert (plain.d_vocab, plain.d_model) == tuple(plain.W_E.shape) == tuple(plain.W_U.T.shape)


@pytest.mark.parametrize("name", sorted(members()[0]))
def test_all_engines_take_the_same_arguments(name):
    """By name, order, kind and default, though a caller that holds one engine is checked against the protocol alone."""
    wanted = inspect.signature(getattr(Engine, name)).parameters.values()
    for kind in (Transformer, ModuleDecoder, HookedDecoder):
        found = inspect.signature(getattr(kind, name)).parameters.values()
        assert [(one.name, one.kind, one.default) for one in found] == [(one.name, one.kind, one.default) for one in wanted]


def test_what_an_engine_needs_and_cannot_have_is_untested(every_engine):
    """One kind of exception for whoever leaves a measurement out, and the reason in its message."""
    for engine in every_engine.values():
        engine.needs("z", "resid_mid", edited=True)
    hooked = every_engine["hooks"]
    assert isinstance(hooked, HookedDecoder)
    hooked.not_editable["z"] = "a reason"
    try:
        hooked.needs("z")
        with pytest.raises(Untested, match="a reason"):
            hooked.needs("q", "z", edited=True)
    finally:
        hooked.not_editable.clear()
