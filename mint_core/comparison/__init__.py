"""Comparisons: several rows on one set of labels, with seeds, intervals and paired tests."""
