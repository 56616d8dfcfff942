"""The pytest plugin, which an installation registers by its entry point: claims run in any folder, without a conftest.

It names the modules that do the work. They import nothing heavy, since they are loaded in every session of every project that
has this package installed; what a run of claims needs besides is loaded once there are claims.
"""

# Each after those that it imports: pytest rewrites the assertions of a plugin that it is the first to import.
pytest_plugins = [
    "circuit_claims.fixtures.options",
    "circuit_claims.fixtures.profiles",
    "circuit_claims.fixtures.bos",
    "circuit_claims.fixtures.subject",
    "circuit_claims.fixtures.weights",
    "circuit_claims.fixtures.header",
    "circuit_claims.fixtures.sae",
    "circuit_claims.fixtures.tasks",
    "circuit_claims.fixtures.edges",
    "circuit_claims.fixtures.contrasts",
    "circuit_claims.fixtures.published_tasks",
    "circuit_claims.fixtures.collection",
    "circuit_claims.fixtures.ledger",
    "circuit_claims.fixtures.outcomes",
    "circuit_claims.fixtures.durations",
    "circuit_claims.fixtures.reporting",
    "circuit_claims.fixtures.distributed",
]
