/* CSV records as rows of COPY's binary format, for the types whose values most files hold.

   Text costs the server most: of a COPY of flight records, two thirds of its time go into finding
   values and reading numbers. Here that is done in one pass without the interpreter's lock.

   What is not of the plain form (`plain_values.h`) makes encode() give up, and the records go to the
   server as they stand, which then says what is wrong with them. So there is no error message in
   this file.

   The format: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format". */

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "plain_values.h"

/* What a value may be; the letters that encode() takes, one for each column. */
enum { INT2 = 's', INT4 = 'i', INT8 = 'l', FLOAT8 = 'd', NUMERIC = 'n', BOOL = 'b', DATE = 'D',
       TIMESTAMP = 'T', TIMESTAMPTZ = 'Z', TEXT = 't' };

#define LEAST_ROOM 64           /* bytes: the longest field of a number, its length with it */
#define LONGEST_QUOTED 64       /* characters of a number, a day or a moment */

typedef struct {
    const char *kinds;
    Py_ssize_t columns;
    byte delimiter, quote;
    const byte *null;
    Py_ssize_t null_length;
    byte stops[256]; /* whether a byte ends a value without quotes, or does not belong there */
} Format;

/* ------------------------------------------------------------------ fields */

/* A value of [at, end) as a field of at most LEAST_ROOM bytes at *out; the byte behind it, or NULL. */
static inline const byte *value(byte kind, const byte *at, const byte *end, byte **out)
{
    int64_t number = 0;
    int32_t days = 0;
    double real = 0;
    uint64_t bits;
    byte flag = 0;
    switch (kind) {
    case INT4:
        at = whole(at, end, INT32_MAX, &number);
        *out = put32(put32(*out, 4), (uint32_t)number);
        return at;
    case FLOAT8:
        at = fraction(at, end, &real);
        memcpy(&bits, &real, sizeof bits);
        *out = put64(put32(*out, 8), bits);
        return at;
    case NUMERIC:
        return decimal(at, end, out);
    case TIMESTAMP:
    case TIMESTAMPTZ:
        at = moment(at, end, kind == TIMESTAMPTZ, &number);
        *out = put64(put32(*out, 8), (uint64_t)number);
        return at;
    case DATE:
        at = day(at, end, &days);
        *out = put32(put32(*out, 4), (uint32_t)days);
        return at;
    case INT8:
        at = whole(at, end, INT64_MAX, &number);
        *out = put64(put32(*out, 8), (uint64_t)number);
        return at;
    case BOOL:
        at = truth(at, end, &flag);
        *out = put32(*out, 1);
        *(*out)++ = flag;
        return at;
    case INT2:
        at = whole(at, end, INT16_MAX, &number);
        *out = put16(put32(*out, 2), (uint16_t)number);
        return at;
    }
    return NULL;
}

/* A value without quotes; the byte behind it, or NULL: then *out is NULL too where it is only that
   there is no room. There is room for LEAST_ROOM bytes. */
static inline const byte *bare(const Format *format, byte kind, const byte *at, const byte *end,
                               byte **out, const byte *limit)
{
    const byte *last = at;
    Py_ssize_t nulls = format->null_length;
    if (kind == TEXT || nulls) {
        while (last < end && !format->stops[*last])
            last++;
    } else if (at < end && !format->stops[*at]) {
        return value(kind, at, end, out);
    }
    if (last - at == nulls && !memcmp(at, format->null, (size_t)nulls)) {
        *out = put32(*out, UINT32_MAX);
        return last;
    }
    if (kind != TEXT)
        return value(kind, at, last, out) == last ? last : NULL;
    if (limit - *out < 4 + (last - at)) {
        *out = NULL;
        return NULL;
    }
    if (format->columns == 1 && last > at && *at == '\\')
        return NULL; /* perhaps COPY's mark for the end of all */
    *out = put32(*out, (uint32_t)(last - at));
    memcpy(*out, at, (size_t)(last - at));
    *out += last - at;
    return last;
}

/* The same of a value behind its first quote. Two quotes stand for one. */
static const byte *quoted(const Format *format, byte kind, const byte *at, const byte *end,
                          byte **out, const byte *limit)
{
    const byte quote = format->quote;
    byte *begin = *out + 4, *text = begin;
    for (;;) {
        const byte *found = memchr(at, quote, (size_t)(end - at));
        if (found == NULL)
            return NULL;
        if (limit - text <= found - at) {
            *out = NULL;
            return NULL;
        }
        memcpy(text, at, (size_t)(found - at));
        text += found - at;
        at = found + 1;
        if (at == end || *at != quote)
            break;
        *text++ = quote;
        at++;
    }
    if (kind == TEXT) {
        put32(*out, (uint32_t)(text - begin));
        *out = text;
        return at;
    }
    byte word[LONGEST_QUOTED];
    Py_ssize_t length = text - begin;
    if (length > LONGEST_QUOTED)
        return NULL;
    memcpy(word, begin, (size_t)length); /* as the field goes where it stands */
    return value(kind, word, word + length, out) == word + length ? at : NULL;
}

/* ------------------------------------------------------------------ records */

typedef struct {
    Py_ssize_t read, written, rows;
    int ends_in_cr; /* whether records end in "\r\n"; -1: unknown, the first one tells, as for COPY */
} Done;

/* Encode as many records of [at, end) as have room in [out, limit); whether all were plain. */
static int encode_records(const Format *format, const byte *at, const byte *end,
                          byte *out, const byte *limit, Done *done)
{
    const Py_ssize_t last = format->columns - 1;
    const byte *begin = at, *first_out = out;
    while (at < end) {
        if (limit - out < 2)
            return 1;
        out = put16(out, (uint16_t)format->columns);
        for (Py_ssize_t column = 0;; column++) {
            byte kind = (byte)format->kinds[column];
            if (limit - out < LEAST_ROOM)
                return 1;
            if (at < end && *at == format->quote)
                at = quoted(format, kind, at + 1, end, &out, limit);
            else
                at = bare(format, kind, at, end, &out, limit);
            if (at == NULL)
                return out == NULL;
            if (column == last)
                break;
            if (at == end || *at != format->delimiter)
                return 0;
            at++;
        }
        if (at < end) {
            int has_cr = *at == '\r';
            at += has_cr;
            if (at == end || *at != '\n' || (done->ends_in_cr >= 0 && done->ends_in_cr != has_cr))
                return 0;
            done->ends_in_cr = has_cr;
            at++;
        }
        done->read = at - begin;
        done->written = out - first_out;
        done->rows++;
    }
    return 1;
}

PyDoc_STRVAR(encode_doc,
"encode(data, out, kinds, delimiter, quote, null, ends_in_cr)\n"
"    -> (read, written, rows, ends_in_cr) or None\n\n"
"Encode CSV records as rows of COPY's binary format, without its header and trailer, as many as\n"
"have room.\n\n"
"data: whole records, bytes-like. out: where the rows go, writable. kinds: a letter for each\n"
"column: s, i, l for smallint, integer, bigint, d for double precision, n for numeric, b for\n"
"boolean, D for date, T and Z for timestamp without and with time zone, t for text. delimiter,\n"
"quote: bytes of the dialect, as numbers; none that a number or a moment is written with. null:\n"
"what stands for NULL, unquoted. ends_in_cr: whether records end in a carriage return and a\n"
"newline; -1 when that is unknown.\n\n"
"Returns how many bytes were read and written, and how many rows they are; None where a record\n"
"has another number of fields, or a value is not of the plain form.");

static PyObject *encode(PyObject *module, PyObject *arguments)
{
    Py_buffer data, out, kinds, null;
    int delimiter, quote;
    Done done = {0, 0, 0, -1};
    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*w*y*iiy*i", &data, &out, &kinds, &delimiter, &quote, &null,
                          &done.ends_in_cr))
        return NULL;
    Format format = {kinds.buf, kinds.len, (byte)delimiter, (byte)quote, null.buf, null.len, {0}};
    format.stops[format.delimiter] = format.stops[format.quote] = 1;
    format.stops['\n'] = format.stops['\r'] = 1;
    int are_plain = 0;
    if (kinds.len > 0 && kinds.len <= INT16_MAX && data.len < INT32_MAX) {
        Py_BEGIN_ALLOW_THREADS
        are_plain = encode_records(&format, data.buf, (const byte *)data.buf + data.len,
                                   out.buf, (const byte *)out.buf + out.len, &done);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&data);
    PyBuffer_Release(&out);
    PyBuffer_Release(&kinds);
    PyBuffer_Release(&null);
    if (!are_plain)
        Py_RETURN_NONE;
    return Py_BuildValue("(nnni)", done.read, done.written, done.rows, done.ends_in_cr);
}

static PyMethodDef methods[] = {{"encode", encode, METH_VARARGS, encode_doc}, {0}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_binary_rows",
    "CSV records as rows of COPY's binary format.", 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__binary_rows(void) { return PyModuleDef_Init(&definition); }
