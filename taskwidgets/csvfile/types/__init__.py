"""The types of a file's columns."""
