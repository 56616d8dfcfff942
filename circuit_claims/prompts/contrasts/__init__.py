"""Prompts in pairs with their answers, as somebody wrote them: read from Python, a file or a data set, checked, and drawn."""
