"""The readers of the rare-disease task."""
