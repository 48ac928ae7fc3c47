"""Formats of files that can be loaded, read in bounded memory."""
