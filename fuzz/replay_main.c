/*
 * Runs a fuzz target without a fuzzer: each seed of the folder in argv[1], and a fixed number of mutations of each seed
 * that are the same in every run. Prints one TAP line per seed. Findings end the process, as under the fuzzer; the input
 * at hand is then in the file that SLUICE_REPLAY_INPUT names, if it is set.
 */
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_MAX 65536
#define ROUNDS 2000
#define FULL_SEEDS 64 /* with more seeds than this, each gets fewer rounds, so that the whole stays bounded */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t state;

static uint64_t next_random(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static size_t below(size_t n) {
    return n == 0 ? 0 : (size_t)(next_random() % n);
}

static void keep(const uint8_t *data, size_t size) {
    const char *path = getenv("SLUICE_REPLAY_INPUT");
    FILE *f = path != NULL ? fopen(path, "wb") : NULL;
    if (f != NULL) {
        fwrite(data, 1, size, f);
        fclose(f);
    }
}

/* A copy of exactly `size` bytes, so that one byte too far is seen by the sanitizer. */
static bool run(const uint8_t *data, size_t size) {
    uint8_t *copy = malloc(size != 0 ? size : 1);
    if (copy == NULL) {
        return false;
    }
    if (size != 0) {
        memcpy(copy, data, size);
    }
    keep(data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
    return true;
}

static size_t cut_out(uint8_t *b, size_t size) {
    size_t off = below(size);
    size_t n = 1 + below(size - off < 32 ? size - off : 32);
    n = n > size - off ? size - off : n;
    memmove(b + off, b + off + n, size - off - n);
    return size - n;
}

static size_t repeat_piece(uint8_t *b, size_t size) {
    size_t off = below(size);
    size_t n = 1 + below(16);
    n = n > size - off ? size - off : n;
    if (n > INPUT_MAX - size) {
        return size;
    }
    memmove(b + off + n, b + off, size - off);
    return size + n;
}

static size_t mutate(uint8_t *b, size_t size) {
    static const uint8_t edges[] = {0x00, 0x01, 0x7f, 0x80, 0xff, '"', '{', '[', ':', ',', '\n', '/', '*', '\\'};
    if (size == 0) {
        b[0] = (uint8_t)next_random();
        return 1;
    }
    switch (below(6)) {
    case 0:
        b[below(size)] ^= (uint8_t)(1u << below(8));
        return size;
    case 1:
        b[below(size)] = (uint8_t)next_random();
        return size;
    case 2:
        b[below(size)] = edges[below(sizeof(edges))];
        return size;
    case 3:
        return cut_out(b, size);
    case 4:
        return repeat_piece(b, size);
    default:
        return below(size) + 1;
    }
}

static bool replay(const uint8_t *seed, size_t size, size_t rounds) {
    static uint8_t work[INPUT_MAX];
    state = 0x9e3779b97f4a7c15u;
    if (!run(seed, size)) {
        return false;
    }
    for (size_t i = 0; i < rounds; i++) {
        if (size != 0) {
            memcpy(work, seed, size);
        }
        size_t n = size;
        for (size_t changes = 1 + below(4); changes > 0; changes--) {
            n = mutate(work, n);
        }
        if (!run(work, n)) {
            return false;
        }
    }
    return true;
}

static bool read_seed(const char *folder, const char *name, uint8_t *out, size_t *size) {
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        return false;
    }
    *size = fread(out, 1, INPUT_MAX, f);
    bool ok = ferror(f) == 0;
    fclose(f);
    return ok;
}

static int not_hidden(const struct dirent *e) {
    return e->d_name[0] != '.';
}

int main(int argc, char **argv) {
    static uint8_t seed[INPUT_MAX];
    struct dirent **names = NULL;
    int n = argc > 1 ? scandir(argv[1], &names, not_hidden, alphasort) : 0;
    n = n < 0 ? 0 : n;
    size_t rounds = n > FULL_SEEDS ? (size_t)ROUNDS * FULL_SEEDS / (size_t)n : ROUNDS;

    bool good = replay(seed, 0, rounds);
    printf("%s 1 - the empty input and its mutations\n", good ? "ok" : "not ok");
    for (int i = 0; i < n; i++) {
        size_t size = 0;
        bool ok = read_seed(argv[1], names[i]->d_name, seed, &size) && replay(seed, size, rounds);
        printf("%s %d - %s\n", ok ? "ok" : "not ok", i + 2, names[i]->d_name);
        fflush(stdout);
        good = good && ok;
        free(names[i]);
    }
    free(names);
    return good ? 0 : 1;
}
