"""A training of a sparse autoencoder as one safetensors file, from which it goes on as if it had never stopped.

sae-lens's own `save_trainer_state` pickles the optimiser's state, and writes several files: a kill between two of them leaves a
checkpoint of two different steps. Here tensors are tensors, everything else is JSON in the file's header, and the file is
written under another name first.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from circuit_claims.sae.folder import SaeError


@dataclass
class Progress:
    """How far a training has come, beside the trainer's own state.

    buffers: buffers of activations that are used up; seconds: spent so far; curve: what was monitored.
    """

    buffers: int
    seconds: float
    curve: list[dict[str, float]]


def save_checkpoint(path: Path, trainer: Any, settings: dict[str, Any], progress: Progress) -> None:
    """Write the whole state of a training, or nothing.

    trainer: sae-lens's SAETrainer; settings: what the training was asked to do, which a resumed one must be asked again.
    """
    optimiser = trainer.optimizer.state_dict()
    tensors = {f"sae.{name}": tensor for name, tensor in trainer.sae.state_dict().items()}
    tensors |= {
        f"optimizer.{index}.{name}": torch.as_tensor(value)
        for index, state in optimiser["state"].items()
        for name, value in state.items()
    }
    tensors |= {f"trainer.{name}": getattr(trainer, name) for name in ("act_freq_scores", "n_forward_passes_since_fired")}
    counts = ("n_training_samples", "n_training_steps", "n_frac_active_samples")
    state = {
        "settings": settings,
        "buffers": progress.buffers,
        "seconds": progress.seconds,
        "curve": progress.curve,
        "param_groups": optimiser["param_groups"],
        "lr_scheduler": trainer.lr_scheduler.state_dict(),
        "coefficients": {name: scheduler.state_dict() for name, scheduler in trainer.coefficient_schedulers.items()},
        "counts": {name: getattr(trainer, name) for name in counts},
        "scaling_factor": trainer.activation_scaler.scaling_factor,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    # Copies, since parameters that share memory are refused, and a step under way may change them.
    save_file(
        {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}, unfinished, {"state": json.dumps(state)}
    )
    os.replace(unfinished, path)


def load_checkpoint(path: Path, trainer: Any, settings: dict[str, Any]) -> Progress:
    """Put a trainer that was made anew with the same settings where the checkpoint has it.

    Raises SaeError where there is none, where it is broken, or where it is of a training with other settings.
    """
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise SaeError(f"there is no training to go on with at {path}: begin one without --resume") from error
    except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise SaeError(f"{path} is no whole checkpoint ({error}): remove it and begin without --resume") from error
    differ = sorted(key for key in settings | state["settings"] if settings.get(key) != state["settings"].get(key))
    if differ:
        was = ", ".join(f"{key} {state['settings'].get(key)}, now {settings.get(key)}" for key in differ)
        raise SaeError(f"the training at {path} was begun otherwise ({was}): go on with what it was begun with")
    device = trainer.sae.device

    def under(prefix: str) -> dict[str, torch.Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    trainer.sae.load_state_dict(under("sae."))
    of_parameters: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in under("optimizer.").items():
        index, _, part = name.partition(".")
        of_parameters.setdefault(int(index), {})[part] = tensor
    trainer.optimizer.load_state_dict({"state": of_parameters, "param_groups": state["param_groups"]})
    trainer.lr_scheduler.load_state_dict(state["lr_scheduler"])
    for name, scheduler in trainer.coefficient_schedulers.items():
        scheduler.load_state_dict(state["coefficients"][name])
    for name, tensor in under("trainer.").items():
        setattr(trainer, name, tensor.to(device))
    for name, count in state["counts"].items():
        setattr(trainer, name, count)
    trainer.activation_scaler.scaling_factor = state["scaling_factor"]
    return Progress(state["buffers"], state["seconds"], state["curve"])
