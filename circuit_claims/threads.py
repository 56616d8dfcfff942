"""How many threads a model is run on."""

import os

#: Parameters below which a model is run on one thread: handing out the work costs more than doing it.
SMALL = 10_000_000


def use_few_threads(n_parameters: int, workers: int = 1) -> None:
    """Set torch to one thread for a small model; several workers share the machine's cores instead of each taking all.

    OMP_NUM_THREADS, where it is set, is obeyed.
    """
    import torch

    if "OMP_NUM_THREADS" in os.environ:
        return
    if n_parameters < SMALL:
        torch.set_num_threads(1)
    elif workers > 1:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
