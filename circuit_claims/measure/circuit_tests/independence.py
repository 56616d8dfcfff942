"""Independence: does what is left of the model without the circuit still vary with the model?

Sources: Shi et al. 2024, the independence test; Gretton et al. 2007 ("A Kernel Statistical Test of Independence") for the
Hilbert-Schmidt independence criterion; Phipson and Smyth 2010 for the p-value of random permutations, which counts the observed
order among them and is therefore never zero. (The published code of Shi et al. does not, and takes the kernels' one width from
distances between the two scores, so that its answer depends on their units; here each has the median of its own.)
"""

from collections.abc import Sequence
from math import ceil

import numpy as np
from jaxtyping import Float

from circuit_claims.measure.circuit_tests.outcome import Outcome, between_zero_and_one, numbers, same_length


def independence(
    without_circuit: Sequence[float] | np.ndarray,
    model: Sequence[float] | np.ndarray,
    *,
    permutations: int = 1000,
    alpha: float = 0.05,
    seed: int = 0,
) -> Outcome:
    """Test that the model's scores `[prompt]` without the circuit are independent of its scores with it.

    The statistic is the criterion with Gaussian kernels; the p-value the share of orders of the prompts, of `permutations`
    random ones and the observed one, that give at least as much.
    Raises ValueError on empty, NaN or infinite scores, on different numbers of prompts, on an alpha out of range, and where so
    few permutations could never reach it.
    """
    without_circuit, model = numbers("without_circuit", without_circuit), numbers("model", model)
    same_length(without_circuit=without_circuit, model=model)
    between_zero_and_one(alpha=alpha)
    if permutations < 1 or 1 / (permutations + 1) > alpha:
        raise ValueError(
            f"with {permutations} permutations no p-value is as small as {alpha}: take at least {ceil(1 / alpha) - 1}"
        )
    centred, other = _centred(_kernel(without_circuit)), _kernel(model)
    n = len(model)
    observed = float((centred * other).sum()) / n**2
    random = np.random.default_rng(seed)
    orders = (random.permutation(n) for _ in range(permutations))
    permuted = np.array([(centred * other[np.ix_(order, order)]).sum() for order in orders]) / n**2
    # Orders that differ in equal scores alone give the same criterion, but for the last digits.
    as_large = int((permuted >= observed - 1e-9 * abs(observed) - 1e-15).sum())
    return Outcome(statistic=observed, p_value=(1 + as_large) / (1 + permutations), alpha=alpha, n=n)


def _kernel(values: Float[np.ndarray, " prompt"]) -> Float[np.ndarray, "prompt prompt"]:
    """The Gaussian kernel whose width is the median distance between two prompts."""
    distances = np.abs(values[:, None] - values)
    apart = distances[np.triu_indices(len(values), 1)]
    width = float(np.median(apart)) if len(apart) else 0.0
    if width == 0:  # most prompts score alike: the mean of the others
        width = float(apart[apart > 0].mean()) if (apart > 0).any() else 1.0
    return np.exp(-((distances / width) ** 2) / 2)


def _centred(kernel: Float[np.ndarray, "prompt prompt"]) -> Float[np.ndarray, "prompt prompt"]:
    """Less the means of its rows and columns: then the sum of products with the other kernel needs no centring of that."""
    return kernel - kernel.mean(0) - kernel.mean(1)[:, None] + kernel.mean()
