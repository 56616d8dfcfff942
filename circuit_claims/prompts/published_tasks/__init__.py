"""Four tasks of the field as pairs of prompts, each after its published sources and made by a seed.

`python -m circuit_claims.prompts.published_tasks` writes them to `fixtures/pairs/`, where claims and notebooks read them like
any other file of pairs (`circuit_claims.prompts.contrasts`).
"""
