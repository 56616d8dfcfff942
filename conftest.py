"""The root: names the plugins, nothing else."""

pytest_plugins = [
    # As its entry point is called, so that an installed plugin is not loaded a second time.
    "circuit_claims.plugin",
    "pytester",
]
