"""The report: the figures in reading order, the page that shows them, its charts and its panels."""
