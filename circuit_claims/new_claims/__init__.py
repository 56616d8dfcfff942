"""`circuit-claims new`: from pairs of prompts to a folder of claims about what a model does with them."""
