"""The error of an experiment that cannot be made as it was asked for."""


class ExperimentError(ValueError):
    """The experiment cannot be made; the message is one sentence that says what is wrong, where, and what to do."""
