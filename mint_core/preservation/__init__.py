"""General ability before and after alignment, measured with lm-evaluation-harness."""
