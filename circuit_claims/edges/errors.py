"""What is raised where edges cannot be what is asked for."""


class EdgeError(ValueError):
    """Edges, a set of them, or a question about them that makes no sense here; the message is one sentence with what to do."""
