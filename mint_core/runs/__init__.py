"""Runs: the folder, the stages, and the one function that makes a run."""
