"""Numbers read off the grid of mean predicted years by decade of the start year (`circuit_claims.tasks.greater_than.task`)."""

import numpy as np
from jaxtyping import Float


def smallest_step(means: Float[np.ndarray, "*resample decade two"]) -> Float[np.ndarray, "*resample"]:
    """The smallest rise of the mean predicted year from one decade of YY to the next, from sums and counts.

    A decade without a prompt is passed over; where there is but one decade, nothing rises.
    """
    sums, counts = means[..., 0], means[..., 1]
    average = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    smallest, before = np.full(average.shape[:-1], np.inf), average[..., 0]
    for decade in range(1, average.shape[-1]):
        here = average[..., decade]
        smallest = np.fmin(smallest, here - before)  # a difference to what is not there is passed over too
        before = np.where(np.isnan(here), before, here)
    return np.where(np.isinf(smallest), 0.0, smallest)
