"""Small programs to read first; see README.md."""
