"""What a person reads in a terminal: output, errors, and text that can be printed."""
