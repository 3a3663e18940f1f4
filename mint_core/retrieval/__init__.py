"""Retrieval in a run: passages in prompts, and rankings combined."""
