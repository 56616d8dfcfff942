"""What the instrument's own tests stand on: a random GPT-2-shaped bridge in both modes, and the embedded model."""

import gc
import os
from pathlib import Path

import pytest
import torch

# Imported here, since a run inside a test forgets the modules that it was the first to import, and torch's register only once.
import transformer_lens.model_bridge  # noqa: F401
from transformers import GPT2LMHeadModel  # noqa: F401

from circuit_claims.engine.decoder.transformer import Transformer
from circuit_claims.subjects.subject import Settings, Subject, prepare
from tests.support.claim_projects import project, same_profile  # noqa: F401 - fixtures for every test of claims
from tests.support.hub_caches import cache, hub, network  # noqa: F401 - fixtures
from tests.support.tiny_models import save_tiny_card, save_tiny_gpt2

# A run inside a test ends as any of pytest does, with passes of the garbage collector over all that is there: mostly modules,
# which are no garbage. Looking through them took up to half of the time of a run of one claim.
gc.freeze()

LAYERS, HEADS, WIDTH = 3, 4, 32


@pytest.fixture(scope="session", params=["raw", "processed"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """A random model of 3 layers and 4 heads, as a bridge: (bridge, transformer), raw and processed."""
    folder = tmp_path_factory.mktemp("tiny") / "tiny"
    save_tiny_gpt2(folder, n_layer=LAYERS, n_head=HEADS, n_embd=WIDTH)
    card = folder.parent / "tiny.toml"
    card.write_text(f'title = "tiny"\n[shape]\nlayers = {LAYERS}\nheads = {HEADS}\n')
    subject = Subject(prepare(Settings(name=str(folder), card=str(card), mode=request.param)))
    return subject.bridge, Transformer(subject.bridge)


@pytest.fixture(scope="session")
def mini() -> Subject:
    """The embedded model as a subject."""
    return Subject(prepare(Settings(name="mini")))


@pytest.fixture(scope="session")
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Two batches of 5 × 9 tokens that differ at positions 4 and 5."""
    generator = torch.Generator().manual_seed(3)
    a = torch.randint(5, 200, (5, 9), generator=generator)
    b = a.clone()
    b[:, 4:6] = torch.randint(5, 200, (5, 2), generator=generator)
    return a, b


@pytest.fixture(scope="session")
def gpt2_folder() -> Path:
    """A folder with GPT-2's real tokenizer, where GPT2_SMALL_DIR names one."""
    folder = os.environ.get("GPT2_SMALL_DIR")
    if not folder:
        pytest.skip("needs GPT-2's tokenizer: set GPT2_SMALL_DIR to a folder with vocab.json and merges.txt")
    return Path(folder)


@pytest.fixture(scope="session")
def random_subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """Three layers of noise with the embedded model's words."""
    folder = tmp_path_factory.mktemp("random") / "noise"
    save_tiny_gpt2(folder, n_layer=3, n_head=4, n_embd=32)
    card = save_tiny_card(folder.parent / "card.toml", n_layer=3, n_head=4)
    return Subject(prepare(Settings(name=str(folder), card=str(card), mode="raw")))
