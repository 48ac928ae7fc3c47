#!/bin/sh
# openpyxl 3.1.5: a workbook that is read with read_only=True keeps something of every row.
#
# Guess before the run: "read-only mode" needs constant memory, whatever the number of rows, as its
# documentation promises nearly constant memory.
#
# What happens: the parser of a sheet keeps the attributes of each <row> element in a dictionary,
# row_dimensions, which nobody reads in this mode. So memory grows with the rows, also with rows
# that are empty: some 90 bytes for a row without attributes, 90 MB for a sheet of a million rows.
#
# Seen with Python 3.11.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
"$folder/environment/bin/python" -m pip install --quiet --disable-pip-version-check openpyxl==3.1.5
"$folder/environment/bin/python" - "$folder" <<'END'
import sys, tracemalloc
import openpyxl


def kept(rows):
    """Bytes that are held after the last of so many rows was read, none of which is kept."""
    path = f"{sys.argv[1]}/{rows}.xlsx"
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet()
    for number in range(rows):
        sheet.append([number])
    book.save(path)
    book = openpyxl.load_workbook(path, read_only=True)
    left = book.active.iter_rows(values_only=True)
    next(left)
    tracemalloc.start()
    for _ in range(rows - 2):
        next(left)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held


few, many = kept(5_000), kept(50_000)
print(f"held after 5,000 rows: {few:,} bytes; after 50,000: {many:,}")
assert many > 5 * few and many > 45_000 * 60, "it does not grow with the rows"
END
echo "as described"
