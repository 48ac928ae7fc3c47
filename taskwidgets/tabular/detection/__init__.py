"""The parts that find out how a file is written; `tabular.detect` puts them together.

excerpts    the bytes that are looked at: all of a small file, pieces of a large one
encoding    which text encoding they are in
records     text cut into records and fields, leniently, in any candidate dialect
cells       what kind of value a cell looks like
delimiters  the delimiter, the quote and the escape that explain the text best
layout      preamble, header rows, footer, and further tables
values      NULL markers, decimal commas, dates, booleans
    scan        all of a source, for exact types
    overrides   what the caller gave, checked
"""
