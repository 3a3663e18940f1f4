"""Evaluation: from predictions to numbers with intervals."""
