"""What is wrong with pairs of prompts, in one sentence for whoever wrote them."""


class PairsError(ValueError):
    """These pairs cannot be used; the message says what is wrong, in which row, and what to do."""
