"""The one way in which a claim says that what it needs is missing."""

from unittest import SkipTest

#: What to do about a claim on weights alone, where the subject's card cannot say what is expected of them.
REAL_WEIGHTS = (
    "or set GPT2_SMALL_DIR to a folder with GPT-2 small's attention weights and name no subject, to test the released ones"
)


class Untested(SkipTest):
    """The claim cannot be put to this subject; the message says why, and what would change that.

    A SkipTest, which pytest and hypothesis take for a skip wherever it is raised, so that it works in a plain claim, in a
    fixture and under hypothesis alike; the report shows *untested*. Outside pytest it is an exception like any other.
    """
