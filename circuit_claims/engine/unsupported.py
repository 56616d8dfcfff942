"""What an engine raises where it cannot do what it is asked."""

from circuit_claims.untested import Untested


class Unsupported(Untested):
    """This architecture has no such activation, or its bridge cannot read or edit it; the message says which, and why.

    An `Untested`, since nothing of the claim can be measured then: whoever catches that one catches this one, and a claim in
    which it is raised ends as *untested* with the same message.
    """


class NoGradients(Unsupported):
    """This engine's passes keep no gradients, so that nothing can be attributed by them."""


class UnsupportedArchitecture(ValueError):
    """This engine cannot compute the model at all; the message says why. Raised while an engine is made or checked."""
