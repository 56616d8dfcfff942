"""Statistical tests of what a circuit is said to be: of Shi et al. 2024 ("Hypothesis Testing the Circuit Hypothesis in LLMs").

    equivalence(circuit, model)                  rejected: the circuit is above (or below) the model too often to be its equal
    independence(without_circuit, model)         rejected: what is left without the circuit still varies with the model
    minimality(changes, random_changes)          rejected, for a node: it matters no more than most random ones, and could go
    sufficiency(circuit, model, random)          rejected: it is no random circuit of its size, but nearer the model than most
    partial_necessity(without, model, random)    rejected: taking it out does more harm than taking out random ones

The first three suppose that the circuit is what it should be, and are evidence against it where they reject; the last two
suppose that it is no better than chance, and are evidence for it. The functions know arrays alone: scores of prompts, changes
of nodes. Prompts are taken to be exchangeable, so they should be of one template, as in the source, or one a template.
"""

from circuit_claims.measure.circuit_tests.equivalence import equivalence, equivalence_of_counts
from circuit_claims.measure.circuit_tests.independence import independence
from circuit_claims.measure.circuit_tests.outcome import Outcome
from circuit_claims.measure.circuit_tests.random_circuits import minimality, partial_necessity, sufficiency

__all__ = [
    "Outcome",
    "equivalence",
    "equivalence_of_counts",
    "independence",
    "minimality",
    "partial_necessity",
    "sufficiency",
]
