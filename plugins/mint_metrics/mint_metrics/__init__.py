"""The metrics of MINT."""
