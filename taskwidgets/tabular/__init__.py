"""What a delimited file is: its dialect, its header, its records and their types.

No database and no jobs here; only bytes, and what Postgres' COPY would make of them.

    formats     what is not delimited text at all (Excel, Parquet, SQLite): refused by name
    container   what a source is packed in (gzip, zstd, bzip2, xz, zip), and reading what is inside
    dialect     delimiter, quote, encoding, null marker, and whether Postgres can read them
    header      the columns' names and the byte at which the data begins
    source      which file it is, and whether it is still the same one
    boundaries  where records end, found with a quote's parity at the speed of memory
    segments    pieces of a file, cut at record boundaries, for several workers at once
    ranges      arithmetic on byte ranges: what is loaded, what is still missing
    fields      one record split into its fields
    sample      records from the whole file, not just its head
    types       the Postgres types that hold a sample's values without changing them
    stream      a source's text with positions, whatever it is packed in or encoded as
    grammar     a description made ready for reading bytes
    triage      which records of a block COPY takes as they are
    extent      where a damaged record ends
    repair      the fields of a damaged record
    pieces      segments of a stream, cut into clean and damaged pieces
    cleaning    a segment made into what COPY takes, and its rejects
    conversion  decimal commas, dates and words for true, as Postgres reads them
    lenient     names and records of a file's head as a person reads them
    lines       from an error of COPY back to the line, the record and the byte at fault
    description how a source is written, wider than what COPY reads
    detect      all of that found out, from excerpts of the source; its parts are in `detection`
    ending      where the data end, when lines stand behind them

Two readers share this: `segments` cuts a file that COPY takes as it stands, given a dialect;
`pieces` and `cleaning` make any other into what COPY takes, given a description.
"""
