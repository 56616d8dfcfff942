"""Finds a model's card with the suite's own sweeps: `circuit-claims discover --subject X`."""
