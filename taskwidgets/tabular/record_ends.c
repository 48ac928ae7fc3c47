/* Where records end, as boundaries.py finds it with numpy: in one pass, 64 bytes at a time.

   Both comparisons become bits of a word, and six shifts with XOR turn the quotes' bits into "an odd
   number of quotes up to here" (Langdale and Lemire, "Parsing Gigabytes of JSON per Second", 2019). */

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "blocks.h"

typedef struct {
    Py_ssize_t first, last, records, lines, lines_to_last;
    int inside;
} Found;

/* Look at so many bytes. The offsets found are those behind the newlines. */
static void scan_bytes(const byte *data, Py_ssize_t length, byte quote, Found *found)
{
    byte rest[BLOCK];
    uint64_t last_ends = 0, last_newlines = 0; /* of the last block in which a record ends, */
    Py_ssize_t last_offset = 0, lines_before = 0; /* and what was before it */
    uint64_t open = found->inside ? ~(uint64_t)0 : 0; /* all bits: a quote is open before the block */
    for (Py_ssize_t offset = 0; offset < length; offset += BLOCK) {
        const byte *block = data + offset;
        uint64_t there = ~(uint64_t)0;
        if (length - offset < BLOCK) {
            memset(rest, 0, BLOCK);
            memcpy(rest, block, (size_t)(length - offset));
            block = rest;
            there >>= BLOCK - (length - offset);
        }
        uint64_t newlines = equal(block, '\n') & there;
        uint64_t odd = equal(block, quote) & there;
        if (odd)
            for (int shift = 1; shift < BLOCK; shift *= 2)
                odd ^= odd << shift;
        odd ^= open;
        open = 0 - (odd >> (BLOCK - 1));
        if (!newlines)
            continue;
        uint64_t ends = newlines & ~odd;
        if (ends) {
            if (!last_ends)
                found->first = offset + lowest(ends) + 1;
            last_ends = ends;
            last_newlines = newlines;
            last_offset = offset;
            lines_before = found->lines;
            found->records += count(ends);
        }
        found->lines += count(newlines);
    }
    if (last_ends) {
        int last = highest(last_ends);
        found->last = last_offset + last + 1;
        found->lines_to_last = lines_before + count(last_newlines << (BLOCK - 1 - last));
    }
    found->inside = open != 0;
}

PyDoc_STRVAR(scan_doc,
"scan(data, quote, inside, start, stop)\n"
"    -> (first, last, records, lines, lines_to_last, inside)\n\n"
"Count and find the record ends in data[start:stop]; what is returned is a `boundaries.Scan`.");

static PyObject *scan(PyObject *module, PyObject *arguments)
{
    Py_buffer data;
    int quote, inside;
    Py_ssize_t start, stop;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*ipnn", &data, &quote, &inside, &start, &stop))
        return NULL;
    if (start < 0 || start > stop || stop > data.len) {
        PyBuffer_Release(&data);
        PyErr_SetString(PyExc_ValueError, "start and stop are not within the data");
        return NULL;
    }
    Found found = {0, 0, 0, 0, 0, inside};
    const byte *bytes = data.buf;
    Py_BEGIN_ALLOW_THREADS
    scan_bytes(bytes + start, stop - start, (byte)quote, &found);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&data);
    return Py_BuildValue("(nnnnnN)", found.records ? start + found.first : 0,
                         found.records ? start + found.last : 0, found.records, found.lines,
                         found.lines_to_last, PyBool_FromLong(found.inside));
}

static PyMethodDef methods[] = {{"scan", scan, METH_VARARGS, scan_doc}, {0}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_record_ends", "Where records end.", 0, methods,
    NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__record_ends(void) { return PyModuleDef_Init(&definition); }
