"""What is wrong with a run file."""


class RunFileError(ValueError):
    """A run file that cannot be used; the message is one sentence for the user, which names the file."""
