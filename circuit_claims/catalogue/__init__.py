"""The catalogue of published numbers, `claims/catalogue.toml`: which claim tests each, or why none."""
