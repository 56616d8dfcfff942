"""The root: names the plugins, nothing else."""

pytest_plugins = [
    "circuit_claims.fixtures.options",
    "circuit_claims.fixtures.subject",
    "circuit_claims.fixtures.weights",
    "circuit_claims.fixtures.collection",
    "circuit_claims.fixtures.durations",
    "circuit_claims.fixtures.tasks",
    "circuit_claims.fixtures.sae",
    "circuit_claims.reports.plugin",
    "circuit_claims.reports.progress",
    "circuit_claims.reports.against",
    "pytester",
]
