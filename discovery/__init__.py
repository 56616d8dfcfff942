"""Finds a model's card with the suite's own sweeps: `python -m discovery --subject X`."""
