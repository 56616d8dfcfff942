"""Expected against observed: rows in, report out.

    plugin  ->  journal  ->  render  ->  report.html, features.html, report.md, claims.csv, claims.json
                         ->  terminal

This package knows rows (`circuit_claims.verdicts.rows`) and nothing of models: whatever fills a row can be reported here.
"""
