"""Strategies: ranking -> preference groups."""
