"""New samples without labels: `mint predict`."""
