/* Values of the plain form, read exactly as Postgres reads them; and how it sends them.

   Plain is what `tabular.types.fits` knows, and no more: no leading zero, no blank, no day that does
   not exist. Each function reads one value that begins at `at`, and returns the byte behind it; NULL
   where it is not of that form. */

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned char byte;

#define LONGEST_FLOAT 24        /* characters of what programs print, as in tabular.screening */
#define EXACT_MANTISSA (1ULL << 53)
#define MOST_DIGITS 19          /* so many fit into 64 bits without a sign, whatever they are */
#define LONGEST_NUMERIC 64      /* characters */
#define DAYS_TO_2000 730425     /* from 0000-03-01 to 2000-01-01, in the Gregorian calendar */
#define US_OF_SECOND 1000000LL
#define US_OF_DAY (86400LL * US_OF_SECOND)

/* Those of ten; as doubles exact, too, which they are up to the 22nd. */
static const uint64_t POWERS[MOST_DIGITS + 1] = {
    1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000, 10000000000,
    100000000000, 1000000000000, 10000000000000, 100000000000000, 1000000000000000,
    10000000000000000, 100000000000000000, 1000000000000000000, 10000000000000000000ULL};

/* ------------------------------------------------------------------ bytes in the net's order */

/* Written so that a compiler sees one swap of bytes and one store. */

static inline byte *put16(byte *out, uint16_t value)
{
    out[0] = (byte)(value >> 8);
    out[1] = (byte)value;
    return out + 2;
}

static inline byte *put32(byte *out, uint32_t value)
{
    out[0] = (byte)(value >> 24);
    out[1] = (byte)(value >> 16);
    out[2] = (byte)(value >> 8);
    out[3] = (byte)value;
    return out + 4;
}

static inline byte *put64(byte *out, uint64_t value)
{
    out[0] = (byte)(value >> 56);
    out[1] = (byte)(value >> 48);
    out[2] = (byte)(value >> 40);
    out[3] = (byte)(value >> 32);
    out[4] = (byte)(value >> 24);
    out[5] = (byte)(value >> 16);
    out[6] = (byte)(value >> 8);
    out[7] = (byte)value;
    return out + 8;
}

/* ------------------------------------------------------------------ values */

static inline unsigned digit(byte c) { return (unsigned)c - '0'; } /* above 9: none */

/* Read on to the first byte that is no digit; *number grows by the digits, modulo 2^64.

   Up to eight of them at a time, without a branch for each: how many digits a value has is what a
   processor guesses wrong most. (Daniel Lemire, "Quickly parsing eight digits", 2018.) */
static inline const byte *digits(const byte *at, const byte *end, uint64_t *number)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    while (end - at >= 8) {
        uint64_t eight;
        memcpy(&eight, at, 8);
        eight ^= 0x3030303030303030; /* digits: 0 to 9 */
        uint64_t others = (eight | (eight + 0x0606060606060606)) & 0xF0F0F0F0F0F0F0F0;
        int length = others ? __builtin_ctzll(others) / 8 : 8;
        if (!length)
            return at;
        eight <<= 8 * (8 - length); /* zeros in front */
        eight = (eight * 10) + (eight >> 8);
        eight = ((eight & 0x000000FF000000FF) * (100 + (1000000ULL << 32)) +
                 ((eight >> 16) & 0x000000FF000000FF) * (1 + (10000ULL << 32))) >> 32;
        *number = *number * POWERS[length] + (uint32_t)eight;
        at += length;
        if (length < 8)
            return at;
    }
#endif
    for (unsigned found; at < end && (found = digit(*at)) <= 9; at++)
        *number = *number * 10 + found;
    return at;
}

/* A whole number within [-bound - 1, bound], as -?[1-9][0-9]* or 0. */
static inline const byte *whole(const byte *at, const byte *end, uint64_t bound, int64_t *value)
{
    int negative = at < end && *at == '-';
    at += negative;
    const byte *first = at;
    uint64_t number = 0;
    at = digits(at, end, &number);
    Py_ssize_t length = at - first;
    if (length < 1 || length > MOST_DIGITS || number > bound + (uint64_t)negative)
        return NULL;
    if (*first == '0' && (length > 1 || negative))
        return NULL;
    *value = negative ? (int64_t)(0 - number) : (int64_t)number;
    return at;
}

/* The nearest double, by the C library, as Postgres has it; what over- or underflows is not
   plain. */
static const byte *nearest(const byte *at, const byte *end, double *value)
{
    char text[LONGEST_FLOAT + 1], *stop;
    if (end - at > LONGEST_FLOAT)
        return NULL;
    memcpy(text, at, (size_t)(end - at));
    text[end - at] = 0;
    errno = 0;
    *value = strtod(text, &stop);
    return errno == 0 && stop == text + (end - at) ? end : NULL;
}

/* -?(0|[1-9][0-9]*), up to 2^53; -?(0|[1-9][0-9]*)?\.[0-9]+; and either with [eE][+-][0-9]{1,3},
   where a digit stands before the point. */
static inline const byte *fraction(const byte *at, const byte *end, double *value)
{
    const byte *begin = at;
    int negative = at < end && *at == '-';
    at += negative;
    const byte *first = at;
    uint64_t mantissa = 0;
    at = digits(at, end, &mantissa);
    uint64_t whole_part = mantissa;
    Py_ssize_t before = at - first, decimals = 0;
    if (before > 1 && *first == '0')
        return NULL;
    if (at < end && *at == '.') {
        const byte *point = at++;
        at = digits(at, end, &mantissa);
        decimals = at - point - 1;
        if (!decimals)
            return NULL;
    } else if (!before || before > MOST_DIGITS || mantissa > EXACT_MANTISSA) {
        return NULL;
    }
    if (at < end && (*at | 0x20) == 'e') {
        at++;
        if (!before || at == end || (*at != '+' && *at != '-'))
            return NULL;
        const byte *sign = at++;
        while (at < end && digit(*at) <= 9)
            at++;
        return at - sign < 2 || at - sign > 4 ? NULL : nearest(begin, at, value);
    }
    if (before + decimals > MOST_DIGITS || mantissa > EXACT_MANTISSA)
        return nearest(begin, at, value);
    /* Two exact numbers, so that their quotient is the nearest double: Clinger, "How to Read
       Floating Point Numbers Accurately", 1990. */
    double number = (double)whole_part;
    if (mantissa != whole_part * POWERS[decimals]) /* 5.0 is common, and a division slow */
        number = (double)mantissa / (double)POWERS[decimals];
    *value = negative ? -number : number;
    return at;
}

/* An exact decimal as its field: -?(0|[1-9][0-9]*)?(\.[0-9]+)?. Digits to the base of 10,000, as
   Postgres keeps them; those before the point begin at 10,000 to the power of `weight`. */
static const byte *decimal(const byte *at, const byte *end, byte **out)
{
    int negative = at < end && *at == '-';
    const byte *begin = at;
    at += negative;
    const byte *first = at;
    while (at < end && digit(*at) <= 9)
        at++;
    Py_ssize_t before = at - first, behind = 0;
    const byte *point = at;
    if (before > 1 && *first == '0')
        return NULL;
    if (at < end && *at == '.') {
        for (at++; at < end && digit(*at) <= 9; at++)
            behind++;
        if (!behind)
            return NULL;
    } else if (!before) {
        return NULL;
    }
    if (at - begin > LONGEST_NUMERIC)
        return NULL;
    Py_ssize_t groups = (before + 3) / 4, all = groups + (behind + 3) / 4;
    byte *to = put32(*out, (uint32_t)(8 + 2 * all));
    to = put16(to, (uint16_t)all);
    to = put16(to, (uint16_t)(groups - 1));
    to = put16(to, negative ? 0x4000 : 0);
    to = put16(to, (uint16_t)behind);
    for (Py_ssize_t place = -4 * groups; place < 4 * (all - groups); place += 4) {
        unsigned group = 0;
        for (Py_ssize_t one = place; one < place + 4; one++) {
            const byte *from = one < 0 ? point + one : point + 1 + one;
            group = group * 10 + (one < -before || one >= behind ? 0 : digit(*from));
        }
        to = put16(to, (uint16_t)group);
    }
    *out = to;
    return at;
}

static inline const byte *truth(const byte *at, const byte *end, byte *value)
{
    static const char *const words[] = {"false", "true"};
    *value = at < end && (*at | 0x20) == 't';
    const char *word = words[*value];
    for (; *word && at < end; word++, at++)
        if ((*at | 0x20) != (byte)*word)
            return NULL;
    return *word ? NULL : at;
}

static inline int two(const byte *at, int most)
{
    unsigned tens = digit(at[0]), ones = digit(at[1]);
    int number = (int)(tens * 10 + ones);
    return tens > 9 || ones > 9 || number > most ? -1 : number;
}

/* Days since 2000-01-01, as 2013-01-31. */
static inline const byte *day(const byte *at, const byte *end, int32_t *days)
{
    static const byte lengths[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (end - at < 10)
        return NULL;
    int century = two(at, 99), rest = two(at + 2, 99), month = two(at + 5, 12);
    int number = two(at + 8, 31);
    if (century < 0 || rest < 0 || month < 1 || number < 1 || at[4] != '-' || at[7] != '-')
        return NULL;
    int year = century * 100 + rest;
    int is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if (year < 1 || number > lengths[month - 1] || (month == 2 && number == 29 && !is_leap))
        return NULL;
    /* Years begin in March here, so that the day that some years lack is their last one. */
    int shifted = month > 2 ? year : year - 1, months = (month + 9) % 12;
    *days = 365 * shifted + shifted / 4 - shifted / 100 + shifted / 400 +
            (153 * months + 2) / 5 + number - 1 - DAYS_TO_2000;
    return at + 10;
}

/* Microseconds since 2000-01-01: a day and HH:MM, HH:MM:SS or HH:MM:SS.ffffff; where `zoned`, a
   zone as Z, +02, +0200 or +02:00; else, a day alone is its midnight. */
static inline const byte *moment(const byte *at, const byte *end, int zoned, int64_t *value)
{
    int32_t days;
    at = day(at, end, &days);
    if (at == NULL)
        return NULL;
    *value = days * US_OF_DAY;
    if (at == end || (*at != 'T' && *at != ' '))
        return zoned ? NULL : at;
    if (end - at < 6 || at[3] != ':')
        return NULL;
    int hours = two(at + 1, 23), minutes = two(at + 4, 59), seconds = 0;
    int64_t parts = 0, zone = 0;
    at += 6;
    if (end - at >= 3 && *at == ':') {
        seconds = two(at + 1, 59);
        at += 3;
        if (at < end && *at == '.') {
            int places = 0;
            for (at++; at < end && digit(*at) <= 9; at++, places++) {
                if (places == 6)
                    return NULL;
                parts = parts * 10 + digit(*at);
            }
            if (!places)
                return NULL;
            for (; places < 6; places++)
                parts *= 10;
        }
    }
    if (hours < 0 || minutes < 0 || seconds < 0)
        return NULL;
    if (zoned && at < end && *at == 'Z') {
        at++;
    } else if (zoned) {
        if (end - at < 3 || (*at != '+' && *at != '-'))
            return NULL;
        int sign = *at == '-' ? -60 : 60, behind = two(at + 1, 15), more = 0;
        at += 3;
        int has_colon = at < end && *at == ':';
        if (has_colon || (at < end && digit(*at) <= 9)) {
            at += has_colon;
            more = end - at < 2 ? -1 : two(at, 59);
            at += 2;
        }
        if (behind < 0 || more < 0)
            return NULL;
        zone = (behind * 60 + more) * sign;
    }
    *value += ((hours * 60 + minutes) * 60 + seconds - zone) * US_OF_SECOND + parts;
    return at;
}
