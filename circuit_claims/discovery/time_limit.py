"""The time that discovery may take, looked at between steps and whenever the model runs within one."""

import time
from collections.abc import Callable


class OutOfTime(BaseException):
    """The time is over. Like KeyboardInterrupt it is no error of whatever was running, so nothing on the way catches it."""


class TimeLimit:
    """A number of minutes from now on; None for no limit."""

    def __init__(self, minutes: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: seconds, from any beginning."""
        self.minutes, self._clock, self._begun = minutes, clock, clock()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return self._clock() - self._begun

    def check(self) -> None:
        """Raise OutOfTime where the minutes are over."""
        if self.minutes is not None and self.seconds >= 60 * self.minutes:
            raise OutOfTime


def in_words(minutes: float) -> str:
    """A number of minutes as it reads in a sentence."""
    return "1 minute" if minutes == 1 else f"{minutes:g} minutes"
