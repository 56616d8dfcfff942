"""Which control refutes which claim: a claim that none can refute says nothing."""
