"""Retrievers: passages about the labels, found for every sample."""
