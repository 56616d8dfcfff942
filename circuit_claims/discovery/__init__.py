"""Finds a model's card with the suite's own sweeps: `python -m circuit_claims.discovery --subject X`."""
