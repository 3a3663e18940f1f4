"""The embedded default: a small teacher and a small student, and the scripts that built them."""
