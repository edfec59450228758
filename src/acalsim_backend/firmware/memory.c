/* memcpy and memset for the guest, which has no C library; compilers emit calls of them. */
#include <stddef.h>
#include <stdint.h>

typedef uint64_t __attribute__((may_alias)) word_t;

void *memcpy(void *to, const void *from, size_t n) {
    char *t = to;
    const char *f = from;
    if ((((uintptr_t)t | (uintptr_t)f) & 7) == 0) {
        for (; n >= 32; n -= 32, t += 32, f += 32) {
            word_t a = ((const word_t *)f)[0], b = ((const word_t *)f)[1];
            word_t c = ((const word_t *)f)[2], d = ((const word_t *)f)[3];
            ((word_t *)t)[0] = a;
            ((word_t *)t)[1] = b;
            ((word_t *)t)[2] = c;
            ((word_t *)t)[3] = d;
        }
        for (; n >= 8; n -= 8, t += 8, f += 8) *(word_t *)t = *(const word_t *)f;
    } else if ((((uintptr_t)t | (uintptr_t)f) & 3) == 0) {
        for (; n >= 4; n -= 4, t += 4, f += 4)
            *(uint32_t __attribute__((may_alias)) *)t = *(const uint32_t __attribute__((may_alias)) *)f;
    }
    for (; n > 0; n--) *t++ = *f++;
    return to;
}

void *memset(void *to, int value, size_t n) {
    char *t = to;
    word_t pattern = (unsigned char)value * 0x0101010101010101u;
    for (; n > 0 && ((uintptr_t)t & 7) != 0; n--) *t++ = (char)value;
    for (; n >= 8; n -= 8, t += 8) *(word_t *)t = pattern;
    for (; n > 0; n--) *t++ = (char)value;
    return to;
}
