"""What tasks over tables and folders share, and the built-in task `table`, which a config describes."""
