"""The data sources of the tissue-type task: one module per reader, each with a function `load`."""
