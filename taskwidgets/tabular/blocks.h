/* 64 bytes at a time, as the bits of a word: the lowest bit is that of the first byte. */

#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define BLOCK 64 /* bytes; as many as a word has bits */

typedef unsigned char byte;

/* Which of 64 bytes are the `wanted` one. */
static inline uint64_t equal(const byte *at, byte wanted)
{
    uint64_t bits = 0;
#ifdef __SSE2__
    const __m128i all = _mm_set1_epi8((char)wanted);
    for (int part = 0; part < BLOCK / 16; part++) {
        __m128i some = _mm_loadu_si128((const __m128i *)(at + 16 * part));
        uint64_t found = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(some, all));
        bits |= found << (16 * part);
    }
#else
    for (int place = 0; place < BLOCK; place++)
        bits |= (uint64_t)(at[place] == wanted) << place;
#endif
    return bits;
}

/* Which of them are the one or the other. */
static inline uint64_t either(const byte *at, byte one, byte other)
{
#ifdef __SSE2__
    const __m128i ones = _mm_set1_epi8((char)one), others = _mm_set1_epi8((char)other);
    uint64_t bits = 0;
    for (int part = 0; part < BLOCK / 16; part++) {
        __m128i some = _mm_loadu_si128((const __m128i *)(at + 16 * part));
        some = _mm_or_si128(_mm_cmpeq_epi8(some, ones), _mm_cmpeq_epi8(some, others));
        bits |= (uint64_t)(uint32_t)_mm_movemask_epi8(some) << (16 * part);
    }
    return bits;
#else
    return equal(at, one) | equal(at, other);
#endif
}

static inline int count(uint64_t bits)
{
    bits -= (bits >> 1) & 0x5555555555555555;
    bits = (bits & 0x3333333333333333) + ((bits >> 2) & 0x3333333333333333);
    bits = (bits + (bits >> 4)) & 0x0F0F0F0F0F0F0F0F;
    return (int)((bits * 0x0101010101010101) >> 56);
}

static inline int lowest(uint64_t bits) /* of one that is not 0 */
{
#ifdef __GNUC__
    return __builtin_ctzll(bits);
#else
    return count((bits & (0 - bits)) - 1);
#endif
}

static inline int highest(uint64_t bits) /* of one that is not 0 */
{
#ifdef __GNUC__
    return BLOCK - 1 - __builtin_clzll(bits);
#else
    for (int shift = 1; shift < BLOCK; shift *= 2)
        bits |= bits >> shift;
    return count(bits) - 1;
#endif
}
