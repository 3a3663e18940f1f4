"""Rare diseases from clinical text."""
