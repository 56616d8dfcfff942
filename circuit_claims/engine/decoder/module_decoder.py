"""The engine of decoders of any known plan: the model's own modules, and interventions computed in their causal cone."""

from circuit_claims.engine.decoder.interventions import Interventions
from circuit_claims.engine.decoder.modules import ModuleSteps


class ModuleDecoder(ModuleSteps, Interventions):
    """A `circuit_claims.engine.protocol.Engine`."""
