"""Functions for programs and notebooks: the command line's options as keywords, rows as lists, datasets or files."""
