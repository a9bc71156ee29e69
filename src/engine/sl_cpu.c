#include "sl_cpu.h"

#include <sys/auxv.h>

#include "sl_digest.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* EBX of leaf 1 is left out: it names the core that happens to run this. */
static size_t features(uint32_t *words) {
    uint32_t a, b, c, d;
    size_t n = 0;
    if (__get_cpuid(1, &a, &b, &c, &d)) {
        words[n++] = c;
        words[n++] = d;
    }
    for (unsigned sub = 0; sub < 2; sub++) {
        if (__get_cpuid_count(7, sub, &a, &b, &c, &d)) {
            words[n++] = a;
            words[n++] = b;
            words[n++] = c;
            words[n++] = d;
        }
    }
    if (__get_cpuid(0x80000001, &a, &b, &c, &d)) {
        words[n++] = c;
        words[n++] = d;
    }
    return n;
}
#else
static size_t features(uint32_t *words) {
    (void)words;
    return 0;
}
#endif

void sl_cpu_fingerprint(char out[17]) {
    uint32_t words[16] = {0};
    size_t n = features(words);
    /* What the kernel lets programs use; on processors without an instruction that tells, this is all there is. */
    words[n++] = (uint32_t)getauxval(AT_HWCAP);
    words[n++] = (uint32_t)((uint64_t)getauxval(AT_HWCAP) >> 32);
    words[n++] = (uint32_t)getauxval(AT_HWCAP2);
    uint8_t digest[SL_SHA256_SIZE] = {0};
    (void)sl_sha256(sl_str(words, n * sizeof(words[0])), digest);
    sl_hex(digest, 8, out);
}
