"""Retrieval in a run: the rankings of a student and a retriever combined."""
