"""From the name of a sparse autoencoder to files that have been looked at, before anything is loaded.

Three kinds of names: a folder in sae-lens's layout (`cfg.json`, `sae_weights.safetensors`), `RELEASE/ID` of sae-lens's registry
(downloaded into the hub's cache, as hub models are), and none, which means the one that is embedded for the subject.
"""

import hashlib
import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from circuit_claims.embedded import embedded
from circuit_claims.models.subject_error import SubjectError

#: The embedded ones, by the name of the subject that each was trained on.
EMBEDDED_SAES = {"mini": embedded("models", "mini-sae")}
#: What sae-lens loads besides SAEs, by a part of its architecture's name, and what each does.
NO_SAES = {
    "transcoder": "gives something else than what it reads",
    "crosscoder": "reads and gives several places at once",
    "clt": "gives what later layers write",
    "temporal": "encodes a token by those before it",
}
#: Where metadata keep what is given, when that is not what is read; the later ones are old or the loaders' own.
OUTPUT_HOOKS = ("hook_name_out", "hook_point_out", "out_hook_point", "hf_hook_name_out")
CFG, WEIGHTS, RECORD = "cfg.json", "sae_weights.safetensors", "training.json"


class SaeError(SubjectError):
    """The sparse autoencoder cannot be had; the message is one sentence that says why and what to do."""


@dataclass(frozen=True)
class SaeFolder:
    """A folder in sae-lens's layout whose files have been looked at.

    name: how the user called it; source: where it came from, for the rows; cfg: cfg.json; record: how it was trained, where
    this project did that, else empty. registered: what sae-lens's registry adds to cfg.json; scaling_factor: by what its inputs
    are to be multiplied, where the registry knows that.
    """

    name: str
    path: Path
    source: str
    cfg: dict[str, Any]
    record: dict[str, Any]
    registered: dict[str, Any] = field(default_factory=dict)
    scaling_factor: float | None = None

    def sha256(self) -> str:
        """The checksum of the weights."""
        digest = hashlib.sha256()
        with (self.path / WEIGHTS).open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
        return digest.hexdigest()

    @property
    def metadata(self) -> dict[str, Any]:
        """What is said of the model and the activations; before sae-lens 6 that stood at the top level of cfg.json."""
        return self.cfg | dict(self.cfg.get("metadata") or {}) | self.registered


def find_sae_folder(path: Path, name: str | None = None, source: str | None = None) -> SaeFolder:
    """Look at a folder's files.

    Raises SaeError where they are not what sae-lens writes.
    """
    if not path.is_dir():
        raise SaeError(f"there is no folder {path}: name one that sae-lens has written, or RELEASE/ID of its registry")
    cfg = _read_json(path / CFG)
    if cfg is None:
        raise SaeError(f"{path} has no {CFG}: name a folder that sae-lens's `save_model` or `make sae` has written")
    if not (path / WEIGHTS).exists():
        pickled = any(path.glob("*.pt")) or any(path.glob("*.bin")) or any(path.glob("*.pkl"))
        what = "has its weights only as pickles, which can run code" if pickled else f"has no {WEIGHTS}"
        raise SaeError(f"{path} {what}: save the SAE anew with sae-lens's `save_model`, which writes safetensors")
    d_in, d_sae = cfg.get("d_in"), cfg.get("d_sae")
    if not (isinstance(d_in, int) and isinstance(d_sae, int) and d_in > 0 and d_sae > 0):
        raise SaeError(f"{path / CFG} gives no widths d_in and d_sae: restore the file that sae-lens wrote")
    found = SaeFolder(name or path.resolve().name, path, source or f"folder {path.resolve().name}", cfg, {})
    refuse_what_is_no_sae(found)
    _look_at_weights(path / WEIGHTS, d_in, d_sae)
    return replace(found, record=_read_json(path / RECORD) or {})


def refuse_what_is_no_sae(folder: SaeFolder) -> None:
    """Raises SaeError where a dictionary does not reconstruct, token by token, what it reads at one place.

    sae-lens loads such ones as it loads SAEs, and their numbers as reconstructions of their input would say nothing.
    """
    said = folder.metadata
    architecture = str(said.get("architecture") or "standard")
    known = next((kind for kind in NO_SAES if kind in architecture.lower()), None)
    advice = "take an SAE of the residual stream"
    if known or said.get("is_transcoder"):
        kind, why = known or "transcoder", NO_SAES[known or "transcoder"]
        raise SaeError(f"{folder.name} is no SAE but a {kind} ({architecture}), which {why}: {advice}")
    reads = said.get("hook_name") or said.get("hook_point")
    places = next((these for these in (reads, said.get("hook_names")) if isinstance(these, list)), None)
    if places is not None:
        some = ", ".join(map(str, places))
        raise SaeError(f"{folder.name} reads several places ({some}), as crosscoders do: {advice}")
    for key in OUTPUT_HOOKS:
        if said.get(key) and said[key] != reads:
            raise SaeError(f"{folder.name} reads {reads} and gives {said[key]}, as transcoders do: {advice}")
    if said.get("d_out") not in (None, said["d_in"]):
        raise SaeError(f"{folder.name} reads vectors of {said['d_in']} numbers and gives {said['d_out']}: {advice}")


def _look_at_weights(path: Path, d_in: int, d_sae: int) -> None:
    try:
        with safe_open(path, framework="pt") as tensors:
            shapes = {key: tuple(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118
            broken = [key for key in shapes if not bool(tensors.get_tensor(key).isfinite().all())]
    except (SafetensorError, OSError) as error:
        raise SaeError(f"{path} is not a whole safetensors file ({error}): copy or download it again") from error
    wanted = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in)}
    wrong = [key for key, shape in wanted.items() if shapes.get(key) != shape]
    if wrong:
        found = ", ".join(f"{key} is {shapes.get(key, 'missing')}" for key in wrong)
        raise SaeError(f"{path} does not fit its {CFG} (d_in {d_in}, d_sae {d_sae}; {found}): restore the two from one SAE")
    if broken:
        raise SaeError(f"{path} holds NaN or infinite numbers in {', '.join(sorted(broken))}: train or download the SAE again")
    if math.prod(shapes["W_enc"]) == 0:
        raise SaeError(f"{path} holds no features: train or download the SAE again")


def _read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where there is no such file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SaeError(f"{path} cannot be read as JSON ({error}): restore the file") from error
    if not isinstance(found, dict):
        raise SaeError(f"{path} holds no JSON object: restore the file")
    return found
