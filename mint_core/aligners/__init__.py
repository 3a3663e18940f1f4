"""Aligners: (student, preference groups) -> adapter."""
