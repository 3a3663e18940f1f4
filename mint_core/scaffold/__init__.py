"""New plugins: a project that works before its author has changed a line."""
