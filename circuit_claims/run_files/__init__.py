"""A run of claims as a file: which subject, which claims, with which options, and where the report goes."""
