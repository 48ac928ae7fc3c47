/* Rows of COPY's text or binary format made into the very bytes of its CSV format.

   A server spends a sixth less on text: for CSV it looks at each value three times, whether it has to
   be quoted. In text, whatever is unusual has a backslash before it; so stretches without one, and
   without a quote or an empty value, are the same in both, and are copied 64 bytes at a time.

   In binary it looks at no value at all, and gives each with its length. For long ones this costs it
   half of text or CSV; for short ones it saves nothing.

   The formats: https://www.postgresql.org/docs/current/sql-copy.html, "Text Format" and "Binary
   Format"; which values CSV quotes: CopyAttributeOutCSV in src/backend/commands/copyto.c. */

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "../tabular/blocks.h"

#define QUOTE '"'
#define BACKSLASH '\\'

typedef struct {
    byte delimiter;
    const byte *null;
    Py_ssize_t null_length;
    int quote_all;     /* whatever is not NULL */
    int is_only;       /* there is one column */
    /* By the character behind a quote [0], or behind a backslash [1]: what the two mean, and whether
       the value has to be quoted for the sake of it. */
    byte meant[2][256], quotes[2][256];
} Format;

/* What reads as NULL, and what older programs take for the end of all, are quoted. */
static int is_marked(const Format *format, const byte *value, Py_ssize_t length)
{
    return (length == format->null_length && !memcmp(value, format->null, (size_t)length)) ||
           (format->is_only && length == 2 && !memcmp(value, "\\.", 2));
}

/* ------------------------------------------------------------------ values in text */

/* What a value is so far: where its next byte goes, and whether it is to be quoted. */
typedef struct {
    byte *to;
    int is_quoted;
} Value;

/* Copy a value on, 64 bytes at a time, as long as there are more, and room; where it stopped, which
   may be within the value. What is found is handled without branches: quotes and backslashes come
   as they like, and a processor would guess half of them wrong. */
static const byte *blocks(const Format *format, const byte *at, const byte *end, Value *value,
                          const byte *limit)
{
    byte *to = value->to;
    while (end - at >= 2 * BLOCK && limit - to >= 4 * BLOCK) {
        const byte *block = at;
        uint64_t stops = either(block, format->delimiter, '\n');
        uint64_t escapes = equal(block, BACKSLASH), special = equal(block, QUOTE) | escapes | stops;
        while (special) {
            int place = lowest(special);
            const byte *found = block + place;
            memcpy(to, at, BLOCK);
            to += found - at;
            if (stops >> place & 1) {
                value->to = to;
                return found;
            }
            int is_escaped = escapes >> place & 1;
            byte next = found[1];
            to[0] = format->meant[is_escaped][next];
            to[1] = QUOTE; /* its second one, else written over */
            to += 2 - is_escaped;
            at = found + 1 + is_escaped;
            value->is_quoted |= format->quotes[is_escaped][next];
            special &= special - 1;
            special &= ~((uint64_t)is_escaped << 1 << place);
        }
        memcpy(to, at, BLOCK);
        if (at < block + BLOCK) {
            to += block + BLOCK - at;
            at = block + BLOCK;
        }
    }
    value->to = to;
    return at;
}

/* The value that begins at `at`, and ends before `end`, as CSV at *out; what ends it, or NULL where
   there is no room. */
static const byte *convert_value(const Format *format, const byte *at, const byte *end, byte **out,
                                 const byte *limit)
{
    if (end - at > 2 && at[0] == BACKSLASH && at[1] == 'N' &&
        (at[2] == '\n' || at[2] == format->delimiter)) {
        if (limit - *out < format->null_length)
            return NULL;
        memcpy(*out, format->null, (size_t)format->null_length);
        *out += format->null_length;
        return at + 2;
    }
    byte *begin = *out;
    Value value = {begin + 1, format->quote_all}; /* it may be to be quoted */
    at = blocks(format, at, end, &value, limit);
    byte *to = value.to;
    int is_quoted = value.is_quoted;
    for (;;) {
        if (limit - to < 3)
            return NULL;
        byte c = *at;
        if (c == '\n' || c == format->delimiter)
            break;
        at++;
        if (c == QUOTE) {
            is_quoted = 1;
            *to++ = QUOTE;
        } else if (c == BACKSLASH && end - at > 1) { /* before the last newline, it is garbage */
            c = *at++;
            is_quoted |= format->quotes[1][c];
            c = format->meant[1][c];
        }
        *to++ = c;
    }
    Py_ssize_t length = to - begin - 1;
    if (is_quoted || is_marked(format, begin + 1, length)) {
        *begin = QUOTE;
        *to++ = QUOTE;
    } else {
        memmove(begin, begin + 1, (size_t)length);
        to--;
    }
    *out = to;
    return at;
}

/* ------------------------------------------------------------------ rows in text */

typedef struct {
    Py_ssize_t read, written, rows;
    int is_full; /* there was no room for more */
} Done;

/* Convert all whole rows of [at, end) that have room in [out, limit). */
static void convert_rows(const Format *format, const byte *at, const byte *end, byte *out,
                         const byte *limit, Done *done)
{
    const byte *begin = at, *first_out = out;
    /* Whether values can be copied without a look at each. */
    const int by_blocks = !format->quote_all && !format->null_length;
    while (end > at && end[-1] != '\n') /* a row that is still to come in full */
        end--;
    const byte *field = at; /* where the value begins that `at` is in */
    while (at < end) {
        if (by_blocks && end - at >= BLOCK) {
            if (limit - out < BLOCK) {
                done->is_full = 1;
                return;
            }
            uint64_t newlines = equal(at, '\n');
            uint64_t stops = newlines | equal(at, format->delimiter);
            uint64_t empty = stops & (stops << 1 | (uint64_t)(at == field));
            uint64_t special = either(at, QUOTE, BACKSLASH) | empty;
            memcpy(out, at, BLOCK);
            uint64_t before = special ? (special & (0 - special)) - 1 : ~(uint64_t)0;
            stops &= before;
            newlines &= before;
            if (newlines) {
                int last = highest(newlines) + 1;
                done->rows += count(newlines);
                done->read = at + last - begin;
                done->written = out + last - first_out;
            }
            if (stops) {
                int last = highest(stops) + 1;
                field = at + last;
            }
            if (!special) {
                at += BLOCK;
                out += BLOCK;
                continue;
            }
        }
        out += field - at; /* back to where the value begins, which may be long ago */
        at = convert_value(format, field, end, &out, limit);
        if (at == NULL || out == limit) {
            done->is_full = 1;
            return;
        }
        byte stop = *out++ = *at++;
        field = at;
        if (stop == '\n') {
            done->rows++;
            done->read = at - begin;
            done->written = out - first_out;
        }
    }
}

/* ------------------------------------------------------------------ values in binary */

#define SHORT (2 * BLOCK)   /* room for whatever is no text, and for a look at a block beyond it */
#define VALUE_BYTES 24      /* the most that a number takes, with quotes and a delimiter */

static uint32_t number16(const byte *at) { return (uint32_t)at[0] << 8 | at[1]; }

static uint32_t number32(const byte *at) { return number16(at) << 16 | number16(at + 2); }

/* Whether a value has a character for the sake of which it is quoted; `end` is that of the buffer. */
static int is_special(const Format *format, const byte *at, Py_ssize_t length, const byte *end)
{
    for (const byte *stop = at + length; at < stop; at += BLOCK) {
        byte last[BLOCK];
        const byte *block = at;
        if (end - at < BLOCK) {
            memset(last, 0, sizeof last);
            memcpy(last, at, (size_t)(stop - at));
            block = last;
        }
        uint64_t special = either(block, QUOTE, format->delimiter) | either(block, '\n', '\r');
        if (stop - at < BLOCK)
            special &= ((uint64_t)1 << (stop - at)) - 1;
        if (special)
            return 1;
    }
    return 0;
}

/* A value as CSV; where the next byte goes. There is room for twice its length and more. */
static byte *put_value(const Format *format, const byte *at, Py_ssize_t length, const byte *end,
                       byte *to)
{
    const byte *stop = at + length;
    if (!format->quote_all && !is_marked(format, at, length) &&
        !is_special(format, at, length, end)) {
        if (length <= BLOCK && end - at >= BLOCK)
            memcpy(to, at, BLOCK);
        else
            memcpy(to, at, (size_t)length);
        return to + length;
    }
    *to++ = QUOTE;
    while (stop - at >= BLOCK && end - at >= 2 * BLOCK) {
        const byte *block_end = at + BLOCK;
        uint64_t quotes = equal(at, QUOTE);
        const byte *block = at;
        memcpy(to, at, BLOCK);
        while (quotes) {
            const byte *behind = block + lowest(quotes) + 1;
            to += behind - at;
            at = behind;
            *to++ = QUOTE;
            memcpy(to, at, BLOCK);
            quotes &= quotes - 1;
        }
        to += block_end - at;
        at = block_end;
    }
    while (at < stop) {
        if (*at == QUOTE)
            *to++ = QUOTE;
        *to++ = *at++;
    }
    *to++ = QUOTE;
    return to;
}

/* A whole number of 2, 4 or 8 bytes, in digits; how many bytes. */
static Py_ssize_t digits_of(const byte *at, Py_ssize_t length, byte *digits)
{
    int64_t value = length == 2   ? (int16_t)number16(at)
                    : length == 4 ? (int32_t)number32(at)
                                  : (int64_t)((uint64_t)number32(at) << 32 | number32(at + 4));
    uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    byte reversed[20];
    Py_ssize_t count = 0, size = 0;
    do
        reversed[count++] = (byte)('0' + left % 10);
    while (left /= 10);
    if (value < 0)
        digits[size++] = '-';
    while (count)
        digits[size++] = reversed[--count];
    return size;
}

/* ------------------------------------------------------------------ rows in binary */

#define SIGNATURE "PGCOPY\n\377\r\n"
#define HEADER 19 /* bytes: the signature with its 0, flags, and the length of nothing more */

/* How long the row at `at` is, and what room it may take; 0 where it is not there as a whole, or is
   none. So are the header and the end, which stand for no row. */
static Py_ssize_t row_length(const byte *at, const byte *end, Py_ssize_t columns,
                             Py_ssize_t null_length, Py_ssize_t *room)
{
    const byte *next = at + 2;
    *room = 0;
    if (end - at < 2)
        return 0;
    if (number16(at) == 0xFFFF)
        return 2;
    if (end - at >= HEADER && !memcmp(at, SIGNATURE, sizeof SIGNATURE))
        return HEADER;
    if (number16(at) != (uint32_t)columns)
        return 0;
    for (Py_ssize_t column = 0; column < columns; column++) {
        if (end - next < 4)
            return 0;
        Py_ssize_t length = (int32_t)number32(next);
        next += 4;
        if (length == -1)
            length = 0;
        if (length < 0 || end - next < length)
            return 0;
        next += length;
    }
    *room = 2 * (next - at) + columns * (VALUE_BYTES + null_length) + 2 * BLOCK;
    return next - at;
}

/* Convert all whole rows of [at, end) that have room in [out, limit). */
static void convert_binary_rows(const Format *format, const byte *kinds, Py_ssize_t columns,
                                const byte *at, const byte *end, byte *out, const byte *limit,
                                Done *done)
{
    const byte *begin = at, *first_out = out;
    byte text[SHORT] = {0};
    Py_ssize_t length, room;
    while ((length = row_length(at, end, columns, format->null_length, &room)) > 0) {
        const byte *next = at + length;
        if (limit - out < room) {
            done->is_full = 1;
            return;
        }
        if (room) {
            at += 2;
            for (Py_ssize_t column = 0; column < columns; column++) {
                Py_ssize_t size = (int32_t)number32(at);
                at += 4;
                if (size < 0) {
                    memcpy(out, format->null, (size_t)format->null_length);
                    out += format->null_length;
                } else if (kinds[column] == 'i' && (size == 2 || size == 4 || size == 8)) {
                    Py_ssize_t digits = digits_of(at, size, text);
                    out = put_value(format, text, digits, text + SHORT, out);
                } else if (kinds[column] == 'b' && size == 1) {
                    text[0] = *at ? 't' : 'f';
                    out = put_value(format, text, 1, text + SHORT, out);
                } else {
                    out = put_value(format, at, size, end, out);
                }
                if (size > 0)
                    at += size;
                *out++ = column + 1 < columns ? format->delimiter : '\n';
            }
            done->rows++;
        }
        at = next;
        done->read = at - begin;
        done->written = out - first_out;
    }
}

/* ------------------------------------------------------------------ for Python */

PyDoc_STRVAR(convert_doc,
"convert(data, out, delimiter, null, quote_all, is_only) -> (read, written, rows, is_full)\n\n"
"Make rows of COPY's text format into those of its CSV format, as many as are whole and have room.\n\n"
"data: rows as COPY writes them with this delimiter and \\N for NULL, bytes-like; the last one may\n"
"be cut off. out: where the rows go, writable. delimiter: a byte, as a number; no letter, digit,\n"
"point, quote or backslash. null: what is to stand for NULL. quote_all: quote what is not NULL.\n"
"is_only: there is one column, and not several.\n\n"
"Returns how many bytes were read and written, how many rows they are, and whether it was for want\n"
"of room that there were no more.");

/* What is asked for, from what Python gives. */
static void fill(Format *format, int delimiter, const Py_buffer *null)
{
    format->delimiter = (byte)delimiter;
    format->null = null->buf;
    format->null_length = null->len;
    memset(format->meant[0], QUOTE, sizeof format->meant[0]);
    memset(format->quotes[0], 1, sizeof format->quotes[0]);
    for (int c = 0; c < 256; c++)
        format->meant[1][c] = (byte)c;
    for (const char *one = "b\bf\fn\nr\rt\tv\v"; *one; one += 2)
        format->meant[1][(byte)one[0]] = (byte)one[1];
    for (int c = 0; c < 256; c++) {
        byte meant = format->meant[1][c];
        format->quotes[1][c] = meant == format->delimiter || meant == '\n' || meant == '\r';
    }
}

static PyObject *told(const Done *done)
{
    return Py_BuildValue("(nnnN)", done->read, done->written, done->rows,
                         PyBool_FromLong(done->is_full));
}

static PyObject *convert(PyObject *module, PyObject *arguments)
{
    Py_buffer data, out, null;
    int delimiter;
    Format format = {0};
    Done done = {0};
    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*w*iy*pp", &data, &out, &delimiter, &null,
                          &format.quote_all, &format.is_only))
        return NULL;
    fill(&format, delimiter, &null);
    Py_BEGIN_ALLOW_THREADS
    convert_rows(&format, data.buf, (const byte *)data.buf + data.len, out.buf,
                 (const byte *)out.buf + out.len, &done);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&data);
    PyBuffer_Release(&out);
    PyBuffer_Release(&null);
    return told(&done);
}

PyDoc_STRVAR(convert_binary_doc,
"convert_binary(data, out, delimiter, null, quote_all, kinds) -> (read, written, rows, is_full)\n\n"
"The same for rows of COPY's binary format. kinds: a byte for each column: i for a whole number, b\n"
"for true or false; of any other, the value's bytes are its text. What begins and ends all is read,\n"
"and is no row.");

static PyObject *convert_binary(PyObject *module, PyObject *arguments)
{
    Py_buffer data, out, null, kinds;
    int delimiter;
    Format format = {0};
    Done done = {0};
    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*w*iy*py*", &data, &out, &delimiter, &null,
                          &format.quote_all, &kinds))
        return NULL;
    fill(&format, delimiter, &null);
    format.is_only = kinds.len == 1;
    Py_BEGIN_ALLOW_THREADS
    convert_binary_rows(&format, kinds.buf, kinds.len, data.buf,
                        (const byte *)data.buf + data.len, out.buf,
                        (const byte *)out.buf + out.len, &done);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&data);
    PyBuffer_Release(&out);
    PyBuffer_Release(&null);
    PyBuffer_Release(&kinds);
    return told(&done);
}

static PyMethodDef methods[] = {
    {"convert", convert, METH_VARARGS, convert_doc},
    {"convert_binary", convert_binary, METH_VARARGS, convert_binary_doc},
    {0}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_csv_rows", "Rows of COPY's text or binary format as those of its CSV.", 0,
    methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__csv_rows(void) { return PyModuleDef_Init(&definition); }
