"""`python -m circuit_claims`, which is `circuit-claims`."""

from circuit_claims.cli import main

if __name__ == "__main__":
    main()
