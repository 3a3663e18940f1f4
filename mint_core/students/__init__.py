"""Students: loading, prompts and responses."""
