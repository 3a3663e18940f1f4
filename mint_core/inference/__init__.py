"""Inference: from prompts to predictions."""
