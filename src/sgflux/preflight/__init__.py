"""What is checked before anything expensive: files by their headers, data by its rows."""
