"""Reports: the table on the terminal and the HTML page."""
