"""Train a sparse autoencoder with sae-lens's trainer, step by step, on activations that are made as they are used up.

sae-lens's `LanguageModelSAETrainingRunner` is not used: it ignores its seed, its checkpoints are pickles in several files, a
resumed run reads other activations than an uninterrupted one would, and its monitoring is Weights & Biases's. Its parts are:
the architectures and their losses, the optimiser with its schedules and clipping, the bookkeeping of dead features, the scaling
of activations, the format of what is saved.
"""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from circuit_claims.sae.folder import SaeError
from circuit_claims.sae.loaded import LoadedSae, without_advice
from circuit_claims.sae.row_sums import counted_tokens, row_sums, special_tokens
from circuit_claims.sae.stream_mode import stream_at
from circuit_claims.sae.text import Rows
from circuit_claims.sae.training_checkpoint import Progress, load_checkpoint, save_checkpoint
from circuit_claims.subjects.subject import Subject

ARCHITECTURES = ("standard", "topk", "batchtopk")


@dataclass(frozen=True)
class Recipe:
    """What is asked of a training.

    layer: the residual stream before it is read. width: features. k: of topk and batchtopk; l1: of standard.
    tokens: to train on; batch: a step's; buffer: rows of text whose activations are mixed before they are used.
    rate: the learning rate, which rises over the first twentieth of the steps and falls to nothing over the last fifth.
    window: a feature is dead that has not fired for so many steps. monitor: steps between two looks at held-out text, and
    held_out, rows of it. save: buffers between two checkpoints.
    """

    layer: int
    architecture: str = "topk"
    width: int = 1024
    k: int = 16
    l1: float = 5.0
    tokens: int = 1_000_000
    batch: int = 2048
    rate: float = 3e-3
    seed: int = 0
    buffer: int = 512
    window: int = 50
    monitor: int = 25
    held_out: int = 64
    save: int = 4

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise SaeError(f"there is no architecture {self.architecture!r}: use {', '.join(ARCHITECTURES)}")
        positive = ("width", "k", "l1", "tokens", "batch", "rate", "buffer", "window", "monitor", "held_out", "save")
        for name in positive:
            if not getattr(self, name) > 0:
                raise SaeError(f"{name} must be above 0, and is {getattr(self, name)}")
        if self.k > self.width:
            raise SaeError(f"k ({self.k}) must not be above the width ({self.width}): no more features can be active")
        if self.tokens < self.batch:
            raise SaeError(
                f"{self.tokens} tokens are too few for one step of {self.batch}: ask for more, or take a smaller batch"
            )

    @property
    def steps(self) -> int:
        """Steps of training."""
        return self.tokens // self.batch


@dataclass(frozen=True)
class Trained:
    """A training that has come to its end. sae: sae-lens's object for inference, with the scale of its inputs folded in."""

    sae: Any
    curve: list[dict[str, float]]
    seconds: float


def train(
    recipe: Recipe,
    subject: Subject,
    text: Rows,
    held_out: Rows,
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
    told: Callable[[int, dict[str, float] | None], None] = lambda step, seen: None,
) -> Trained:
    """Train an SAE.

    checkpoint: the file that the training can go on from after it was killed; it is removed by whoever has saved the result.
    told: called after every step with its number, and with what was monitored on held-out text, where that was due.

    The same recipe, subject, text, versions and number of threads give the same weights, to the byte, whether or not the
    training was interrupted.

    Raises SaeError where the recipe does not fit the subject or the text, where there is no training to resume, or where the
    loss is no number any more.
    """
    if not 0 <= recipe.layer <= subject.transformer.n_layers:
        last = subject.transformer.n_layers
        raise SaeError(f"{subject.name} has {last} layers: choose a --layer from 0 to {last} ({last}: after the last)")
    trainer = make_trainer(recipe, subject, text)
    settings = asdict(recipe) | {"subject": subject.weights_sha256, "mode": subject.mode, "text": text.name}
    if resume:
        progress = load_checkpoint(_needed(checkpoint), trainer, settings)
    else:
        progress = Progress(0, 0.0, [])
        _estimate_scale(trainer, recipe, subject, text)
    kept_for_monitoring = held_out.rows(0, recipe.held_out)
    began = time.monotonic() - progress.seconds
    while trainer.n_training_steps < recipe.steps:
        for batch in buffer(recipe, subject, text, progress.buffers):
            _step(trainer, batch)
            seen = None
            if trainer.n_training_steps % recipe.monitor == 0 or trainer.n_training_steps == recipe.steps:
                seen = monitored(trainer, recipe, subject, kept_for_monitoring)
                progress.curve.append(seen)
            told(trainer.n_training_steps, seen)
            if trainer.n_training_steps == recipe.steps:
                break
        progress.buffers += 1
        progress.seconds = time.monotonic() - began
        if checkpoint and progress.buffers % recipe.save == 0:
            save_checkpoint(checkpoint, trainer, settings, progress)
    return Trained(inference_sae(trainer), progress.curve, progress.seconds)


def make_trainer(recipe: Recipe, subject: Subject, text: Rows) -> Any:
    """sae-lens's trainer with an SAE that is initialised by the recipe's seed."""
    from sae_lens.config import SAETrainerConfig
    from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
    from sae_lens.saes.sae import SAEMetadata
    from sae_lens.saes.standard_sae import StandardTrainingSAE, StandardTrainingSAEConfig
    from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.training.sae_trainer import SAETrainer

    model = subject.transformer
    last = recipe.layer == model.n_layers
    stream = "centred" if stream_at(subject, recipe.layer) == "centred" else "raw"
    metadata = SAEMetadata(
        model_name=subject.name,
        hook_name=f"blocks.{recipe.layer - 1}.hook_resid_post" if last else f"blocks.{recipe.layer}.hook_resid_pre",
        context_size=text.context,
        prepend_bos=bool(getattr(text, "prepend_bos", False)),
        dataset_path=text.name,
        exclude_special_tokens=list(special_tokens(subject.tokenizer)),
        residual_stream=stream,
        model_weights_sha256=subject.weights_sha256,
        # In sae-lens's own words, for whoever loads the SAE there.
        model_from_pretrained_kwargs={"center_writing_weights": True} if stream == "centred" else {},
    )
    common = {
        "d_in": model.d_model,
        "d_sae": recipe.width,
        "device": str(subject.device),
        "normalize_activations": "expected_average_only_in",
        "metadata": metadata,
    }
    warm = max(1, recipe.steps // 20)
    if recipe.architecture == "standard":
        config = StandardTrainingSAEConfig(l1_coefficient=recipe.l1, l1_warm_up_steps=warm, **common)
        make = partial(StandardTrainingSAE, config)
    elif recipe.architecture == "topk":
        make = partial(TopKTrainingSAE, TopKTrainingSAEConfig(k=recipe.k, **common))
    else:
        make = partial(BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig(k=float(recipe.k), **common))
    with torch.random.fork_rng(), without_advice():
        torch.manual_seed(recipe.seed)
        sae = make()
    schedule = SAETrainerConfig(
        total_training_samples=recipe.steps * recipe.batch,
        train_batch_size_samples=recipe.batch,
        lr=recipe.rate,
        lr_end=recipe.rate,
        lr_warm_up_steps=warm,
        lr_decay_steps=recipe.steps // 5,
        device=str(subject.device),
        dead_feature_window=recipe.window,
    )
    return SAETrainer(schedule, sae, data_provider=iter(()))


def buffer(recipe: Recipe, subject: Subject, text: Rows, number: int) -> Iterator[Float[Tensor, "batch d_model"]]:
    """The batches of one buffer of activations: its rows of text, without special tokens, in an order of its own seed.

    What does not fill a batch is left out. Memory is one buffer's, however long the training is.
    """
    rows = text.rows(number * recipe.buffer, recipe.buffer).to(subject.device)
    kept = counted_tokens(rows, special_tokens(subject.tokenizer))
    parts = rows.split(64)
    stream = torch.cat([subject.transformer.stop_at_layer(part, recipe.layer) for part in parts])[kept]
    generator = torch.Generator().manual_seed((recipe.seed << 32) + number)
    stream = stream[torch.randperm(len(stream), generator=generator).to(stream.device)].float()
    if len(stream) < recipe.batch:
        raise SaeError(
            f"a buffer of {len(rows)} rows holds {len(stream)} tokens, and a batch {recipe.batch}: take a larger buffer"
        )
    for batch in stream[: len(stream) // recipe.batch * recipe.batch].split(recipe.batch):
        yield batch.clone()  # no inference tensor, so that gradients can be taken


def _estimate_scale(trainer: Any, recipe: Recipe, subject: Subject, text: Rows) -> None:
    """Let the vectors' mean norm be the root of their width: rates and L1 coefficients then mean the same everywhere."""
    norms = torch.cat([batch.norm(dim=-1) for batch in buffer(recipe, subject, text, 0)])
    if not float(norms.mean()) > 0:
        raise SaeError(f"the residual stream of {subject.name} at layer {recipe.layer} is NaN or nothing but zeros")
    trainer.activation_scaler.scaling_factor = subject.transformer.d_model**0.5 / float(norms.mean())


def _step(trainer: Any, batch: Float[Tensor, "batch d_model"]) -> None:
    loss = trainer.step(batch).loss
    trainer.n_training_steps += 1  # as sae-lens leaves to its caller
    if not bool(loss.isfinite()):
        raise SaeError(
            f"the loss is {float(loss)} at step {trainer.n_training_steps}: take a lower --rate, or look for NaN in the model"
        )


def inference_sae(trainer: Any) -> Any:
    """The SAE as it is now, for inference on activations as they come."""
    from sae_lens import SAE

    now = copy.deepcopy(trainer.sae)
    now.fold_activation_norm_scaling_factor(trainer.activation_scaler.scaling_factor)
    state = {name: tensor.clone() for name, tensor in now.state_dict().items()}
    now.process_state_dict_for_saving_inference(state)
    config = now.cfg.get_inference_sae_cfg_dict() | {"normalize_activations": "none"}
    with without_advice():
        sae = SAE.from_dict(config)
    sae.load_state_dict(state)
    return sae.eval().requires_grad_(False)


@torch.no_grad()
def monitored(trainer: Any, recipe: Recipe, subject: Subject, rows: Tensor) -> dict[str, float]:
    """What a training is watched by: its numbers on held-out text, and dead features by what they did in training."""
    sums, _ = row_sums(as_loaded(inference_sae(trainer), recipe, subject), rows, special_tokens(subject.tokenizer))
    numbers = sums.numbers()
    wanted = ("l0", "mse", "explained_variance", "loss", "loss_with_sae", "loss_recovered")
    return {
        "step": trainer.n_training_steps,
        "tokens": trainer.n_training_samples,
        **{name: numbers[name] for name in wanted},
        "dead": float(trainer.dead_neurons.float().mean()),
    }


def as_loaded(sae: Any, recipe: Recipe, subject: Subject) -> LoadedSae:
    """An SAE that has just been trained on a subject, as claims have it."""
    return LoadedSae(subject, sae, recipe.layer, sae.cfg.metadata.hook_name)


def _needed(checkpoint: Path | None) -> Path:
    if checkpoint is None:
        raise SaeError("there is no checkpoint to go on with: begin without --resume")
    return checkpoint
