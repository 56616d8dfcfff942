"""Prompts in pairs with their answers: whatever needs no roles of IOI, on prompts of one's own."""
