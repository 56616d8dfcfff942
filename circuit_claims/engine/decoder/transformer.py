"""The engine of GPT-2's family: its forward pass in plain tensors, and interventions computed in their causal cone."""

from circuit_claims.engine.decoder.gpt2 import Gpt2Steps
from circuit_claims.engine.decoder.interventions import Interventions


class Transformer(Gpt2Steps, Interventions):
    """A `circuit_claims.engine.protocol.Engine`."""
