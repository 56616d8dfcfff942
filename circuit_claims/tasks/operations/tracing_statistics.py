"""Numbers read off the grids of causal tracing (`circuit_claims.tasks.operations.causal_tracing`): layers × roles of tokens.

As in `circuit_claims.measure.grid_statistics`, each makes a function from mean grids `[..., layer, column]` to numbers `[...]`.
"""

import numpy as np
from jaxtyping import Float

from circuit_claims.measure import ties
from circuit_claims.measure.grid_statistics import Statistic
from circuit_claims.prompts.roles import LAST, SUBJECT, TRACED_PARTS, TRACED_ROLES


def early_site(means: Float[np.ndarray, "*resample layer role"]) -> Float[np.ndarray, "*resample"]:
    """How much more the subject's last token restores than END does, on average over the first half of the layers."""
    early = means[..., : means.shape[-2] // 2, :]
    return (early[..., SUBJECT] - early[..., LAST]).mean(-1)


def late_site(means: Float[np.ndarray, "*resample layer role"]) -> Float[np.ndarray, "*resample"]:
    """How much more END restores than the subject's last token does, in the last quarter of the layers before the last.

    After the last layer END has everything and the subject nothing, whatever the model: it does not count.
    """
    n_layers = means.shape[-2]
    late = means[..., n_layers - 1 - max(1, n_layers // 4) : n_layers - 1, :]
    return (late[..., LAST] - late[..., SUBJECT]).mean(-1)


def last_over_first(means: Float[np.ndarray, "*resample layer role"]) -> Float[np.ndarray, "*resample"]:
    """How much more the subject's last token restores than its first does, on average over the first half of the layers."""
    early = means[..., : means.shape[-2] // 2, :]
    return (early[..., SUBJECT] - early[..., TRACED_ROLES.index("first subject token")]).mean(-1)


def handover(means: Float[np.ndarray, "*resample layer role"]) -> Float[np.ndarray, "*resample"]:
    """The first layer after which END restores more than the subject's last token does; the number of layers where none."""
    sites = means[..., [LAST, SUBJECT]]
    over = sites[..., 0] > sites[..., 1] + ties.rounding(sites.reshape(*sites.shape[:-2], -1))
    return np.where(over.any(-1), over.argmax(-1), means.shape[-2])


def mlps_over_attention(role: str) -> Statistic:
    """How much more MLP outputs restore than attention outputs do, on average over layers, at one role's token."""
    mlp, attention = TRACED_PARTS.index(f"MLP, {role}"), TRACED_PARTS.index(f"attention, {role}")
    return lambda means: (means[..., mlp] - means[..., attention]).mean(-1)


def peak_of_the_mlps(means: Float[np.ndarray, "*resample layer part"]) -> Float[np.ndarray, "*resample"]:
    """Where the MLPs restore most at the subject's last token: the middle of that layer, as a share of the depth."""
    return (ties.first_highest(means[..., TRACED_PARTS.index(f"MLP, {TRACED_ROLES[SUBJECT]}")]) + 0.5) / means.shape[-2]


def agreement(means: Float[np.ndarray, "*resample layer two_roles"]) -> Float[np.ndarray, "*resample"]:
    """The correlation over cells of the grid's first half of columns with its second half."""
    halves = np.split(means, 2, axis=-1)
    a, b = (half.reshape(*half.shape[:-2], -1) for half in halves)
    a, b = (side - side.mean(-1, keepdims=True) for side in (a, b))
    sizes = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    return np.divide((a * b).sum(-1), sizes, out=np.zeros_like(sizes), where=sizes > 0)
