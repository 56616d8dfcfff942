"""What an intervention gives, in the same words in every chapter. `value`, `change` and `remaining` are of the task's metric.

value: the metric under the intervention. change: what it costs, the clean value minus this one, and so positive where something
is lost (of a patch clean into corrupted, what it wins back). share: the change as a share of the baseline. remaining: the value
as a share of the baseline. recovery, of a patch clean into corrupted alone: the change as a share of what the corruption costs.
Shares are ratios of means over prompts.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from circuit_claims.measure.measurement import Measurement
from circuit_claims.tasks.task import Task


@dataclass(frozen=True)
class Intervention(ABC):
    """Something that is done to the model on a task's clean prompts."""

    task: Task

    @abstractmethod
    def value(self) -> Measurement:
        """The metric under the intervention."""

    @property
    @abstractmethod
    def how(self) -> str:
        """What is done, as it ends a quantity's name: "by noising L9H9 at END (ABC)"."""

    def change(self) -> Measurement:
        """Clean minus patched value, prompt by prompt."""
        task = self.task
        lost = task.baseline().minus(self.value(), self.quantity(self.loss_word), task.metric.unit)
        return lost.presupposing(task.competence())

    def share(self) -> Measurement:
        """The change as a share of the baseline, each averaged over prompts first."""
        task = self.task
        return self.change().share_of(task.baseline(), self.quantity("share lost"), share_of_metric(task))

    def remaining(self) -> Measurement:
        """The share of the baseline that is left, each averaged over prompts first."""
        task = self.task
        return self.value().share_of(task.baseline(), self.quantity(f"share of the {task.metric.name} left"))

    @property
    def loss_word(self) -> str:
        """What a change is called in rows."""
        return "loss"

    def quantity(self, what: str) -> str:
        """Something of this intervention, as rows name it."""
        return f"{what} {self.how}{self.task.under}"


def share_of_metric(task: Task) -> str:
    """The unit of shares of a task's baseline."""
    return f"share of the {task.metric.name}"
