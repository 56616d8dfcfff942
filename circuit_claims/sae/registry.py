"""SAEs of sae-lens's registry, by RELEASE/ID, such as gpt2-small-res-jb/blocks.8.hook_resid_pre.

Downloaded into the hub's cache as hub models are, and looked at like any other folder. What the registry adds to an SAE's own
files (how its model was loaded, by what factor its inputs were scaled) counts, since without it the numbers are wrong.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from circuit_claims.sae.folder import CFG, WEIGHTS, SaeError, SaeFolder, find_sae_folder, refuse_what_is_no_sae


def find_in_registry(name: str) -> SaeFolder:
    """The folder of a registered SAE, downloaded once.

    Raises SaeError where the registry has none of that name, where it is not kept as safetensors in sae-lens's own format, or
    where it cannot be had.
    """
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    release, _, sae_id = name.partition("/")
    registered = get_pretrained_saes_directory().get(release)
    if registered is None:
        raise SaeError(f"sae-lens's registry has no release {release!r}, and there is no folder {name}: check the spelling")
    if sae_id not in registered.saes_map:
        some = ", ".join(list(registered.saes_map)[:4])
        raise SaeError(f"the release {release} has no SAE {sae_id!r}: it has {some}, ...")
    if registered.conversion_func:
        raise SaeError(
            f"{name} is kept in a format of its own ({registered.conversion_func}), which may be pickled: load it with "
            "sae-lens, save it with `save_model`, and name that folder"
        )
    path = _downloaded(registered.repo_id, registered.saes_map[sae_id])
    found = find_sae_folder(path, name, f"sae-lens's registry, hub {registered.repo_id}")
    found = with_registered(found, registered.model, registered.config_overrides, registered.norm_scaling_factor.get(sae_id))
    refuse_what_is_no_sae(found)
    return found


def with_registered(folder: SaeFolder, model: str, overrides: dict[str, Any] | None, scaling_factor: float | None) -> SaeFolder:
    """A folder with what the registry says of it, which goes before what its own files say."""
    said = {"model_name": model} | (overrides or {})
    return replace(folder, registered=said, scaling_factor=scaling_factor)


def _downloaded(repo_id: str, folder: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        paths = [Path(hf_hub_download(repo_id, f"{folder}/{file}")) for file in (CFG, WEIGHTS)]
    except LocalEntryNotFoundError as error:
        raise SaeError(
            f"{repo_id} is not in the local cache and the hub cannot be reached: connect once to download it, or name a folder"
        ) from error
    except EntryNotFoundError as error:
        raise SaeError(f"{repo_id} has no {folder}/{CFG} and {WEIGHTS}: it is not kept in sae-lens's own format") from error
    except Exception as error:  # the hub's client wraps other clients' errors; the user can do the same about all of them
        raise SaeError(
            f"{repo_id} could not be downloaded ({type(error).__name__}): try again, or name a local folder"
        ) from error
    return paths[0].parent
