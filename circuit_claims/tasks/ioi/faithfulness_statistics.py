"""Numbers read off the table of faithfulness by template and order (`circuit_claims.tasks.ioi.faithfulness_table`)."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from circuit_claims.prompts.templates import ORDERS

#: Means of circuit and model in ABBA, then of circuit and model in BABA, for each template.
Means = Float[np.ndarray, "*resample template four"]


def ratio(means: Means, order: str) -> Float[np.ndarray, "*resample template"]:
    """Circuit over model, for each template, in one order."""
    column = 2 * ORDERS.index(order)
    return means[..., column] / means[..., column + 1]


def of_template(template: int, order: str) -> Callable[[Means], Float[np.ndarray, "*resample"]]:
    """The faithfulness of one template (by its place in the table) in one order."""
    return lambda means: ratio(means, order)[..., template]


def smallest_lead_of_BABA(means: Means) -> Float[np.ndarray, "*resample"]:
    """The smallest difference, over templates, of the faithfulness in BABA minus that in ABBA."""
    return (ratio(means, "BABA") - ratio(means, "ABBA")).min(-1)


def overall(means: Means) -> Float[np.ndarray, "*resample"]:
    """The mean over all templates and both orders."""
    return np.mean([ratio(means, order).mean(-1) for order in ORDERS], axis=0)
