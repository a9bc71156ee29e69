/*
 * What isolation of requests costs, on the host in memory: per language and level, a request alone and with what follows it.
 *
 *   make bench-isolation                  BENCH_ARGS: other modules (name=path), or -n requests
 *
 * Levels: shared (one instance for all), request (restored to its image after each request), fresh (a new instance for each request:
 * instantiated, started, configured). Requests alternate bodies of 0 and 64 KiB and 10 and 100 headers, in one run; times are of the small
 * ones (no body, 10 headers) and of all. A time is the smallest mean over 50 requests of a kind: other programs only make it slower.
 * The last two rows of a language are a request after a trap of the shared instance, which brings it back: reset to the image of what it
 * was after it had been configured, or started and configured again. The trap is the guest's first access to its memory, which is taken
 * away. Instructions are those of this thread in user mode, where the kernel counts them. Pages are 4 KiB; memory is what an instance adds
 * to the private pages of the process, with 40 of them.
 */
#include <inttypes.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "mh.h"
#include "pw_internal.h"
#include "sl_file.h"

enum { WINDOW = 50, KINDS = 4, MANY = 40, BODY = 65536 };

typedef struct {
    double best_ns[KINDS], sum_ns[KINDS];
    uint64_t n[KINDS];
    uint64_t instructions; /* per small request */
} result_t;

typedef struct {
    mh_t *mh;
    sl_engine_t *engine;
    sl_module_t *module;
    pw_filter_t *filter;
    pw_chain_t *chain;
} rig_t;

static pw_pair_t headers[100];
static char body[BODY];
static int counter = -1;

static _Noreturn void die(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static double now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void open_counter(void) {
    struct perf_event_attr attr = {.type = PERF_TYPE_HARDWARE, .size = sizeof(attr), .config = PERF_COUNT_HW_INSTRUCTIONS};
    attr.exclude_kernel = 1;
    attr.exclude_hv = 1;
    counter = (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
}

static uint64_t instructions(void) {
    uint64_t n = 0;
    return counter >= 0 && read(counter, &n, sizeof(n)) == (ssize_t)sizeof(n) ? n : 0;
}

static void make_headers(void) {
    static char names[100][16];
    static const char *const pseudo[] = {":method", "POST", ":path", "/some/path", ":authority", "bench.test", ":scheme", "http"};
    for (size_t i = 0; i < 100; i++) {
        snprintf(names[i], sizeof(names[i]), "x-header-%zu", i);
        headers[i] = (pw_pair_t){sl_cstr(names[i]), SL_STR("some value of a header")};
    }
    for (size_t i = 0; i < 4; i++) {
        headers[i] = (pw_pair_t){sl_cstr(pseudo[2 * i]), sl_cstr(pseudo[2 * i + 1])};
    }
    memset(body, 'b', sizeof(body));
}

/* ---- one request ---- */

typedef struct {
    mh_stream_t *stream;
    pw_stream_t *pw;
    double ns;             /* so far; filling the header maps is the proxy's own work and not counted */
    uint64_t instructions; /* likewise */
} request_t;

static request_t request_begin(rig_t *rig, int kind) {
    static const pw_pair_t response[] = {{{":status", 7}, {"200", 3}}, {{"content-type", 12}, {"text/plain", 10}}};
    uint64_t before = instructions();
    double begin = now_ns();
    request_t r = {.stream = mh_stream_new(rig->mh, rig->chain)};
    r.ns = now_ns() - begin;
    r.instructions = instructions() - before;
    if (r.stream == NULL || mh_map_fill(r.stream, PW_MAP_REQUEST_HEADERS, headers, (kind & 1) != 0 ? 100 : 10) != SL_OK ||
        mh_map_fill(r.stream, PW_MAP_RESPONSE_HEADERS, response, 2) != SL_OK) {
        die("stream", "out of memory");
    }
    r.pw = mh_stream_pw(r.stream);
    return r;
}

static void request_run(const request_t *r, int kind) {
    pw_out_t out;
    bool with_body = (kind & 2) != 0;
    sl_str_t piece = sl_str(body, sizeof(body));
    pw_verdict_t verdict = pw_stream_headers(r->pw, PW_DIR_REQUEST, !with_body, &out);
    if (verdict == PW_CONTINUE && with_body) {
        verdict = pw_stream_body(r->pw, PW_DIR_REQUEST, &piece, 1, true, &out);
    }
    if (verdict == PW_CONTINUE) {
        verdict = pw_stream_headers(r->pw, PW_DIR_RESPONSE, true, &out);
    }
    if (verdict != PW_CONTINUE) {
        die("request", "the filter did not let it pass");
    }
}

/* ---- many ---- */

static void set_up(rig_t *rig, const char *path, sl_isolation_t isolation, sl_dirty_t dirty) {
    sl_engine_conf_t conf = {.dirty = dirty};
    pw_filter_conf_t filter = {.name = SL_STR("bench")};
    sl_err_t err;
    sl_buf_t bytes;
    sl_buf_init(&bytes, (size_t)256 << 20);
    sl_filter_opts_init(&filter.opts);
    filter.opts.isolation = (uint8_t)isolation;
    filter.opts.breaker_traps = 0; /* recovery is measured, not its absence */
    filter.opts.set |= SL_FOPT_BIT(BREAKER_TRAPS) | SL_FOPT_BIT(ISOLATION);
    if (sl_engine_new(&conf, &rig->engine, &err) != SL_OK || sl_file_read(path, &bytes, &err) != SL_OK ||
        sl_module_compile(rig->engine, sl_buf_str(&bytes), &rig->module, &err) != SL_OK) {
        die(path, err.text);
    }
    sl_buf_deinit(&bytes);
    rig->mh = mh_new(NULL);
    mh_log_level_set(rig->mh, PW_LOG_CRITICAL);
    filter.module = rig->module;
    if (pw_filter_new(mh_worker(rig->mh), &filter, &rig->filter, &err) != SL_OK) {
        die(path, err.text);
    }
    rig->chain = pw_chain_new(mh_worker(rig->mh), (pw_filter_t *const[]){rig->filter}, 1, NULL);
}

static void tear_down(rig_t *rig) {
    pw_chain_unref(rig->chain);
    pw_filter_unref(rig->filter);
    mh_free(rig->mh);
    sl_module_unref(rig->module);
    sl_engine_free(rig->engine);
}

/* A stream through no filter: what is not the filter's. */
static double overhead_ns(rig_t *rig) {
    pw_chain_t *chain = rig->chain, *none = pw_chain_new(mh_worker(rig->mh), NULL, 0, NULL);
    double best = 1e18;
    rig->chain = none;
    for (int round = 0; round < 200; round++) {
        double sum = 0;
        for (int i = 0; i < WINDOW; i++) {
            request_t r = request_begin(rig, 0);
            double begin = now_ns();
            mh_stream_free(r.stream);
            sum += r.ns + now_ns() - begin;
        }
        best = sum / WINDOW < best ? sum / WINDOW : best;
    }
    rig->chain = chain;
    pw_chain_unref(none);
    return best;
}

static void measure(rig_t *rig, uint64_t n, result_t *result) {
    double window[KINDS] = {0};
    uint64_t in_window[KINDS] = {0}, counted = 0, small = 0;
    *result = (result_t){.best_ns = {1e18, 1e18, 1e18, 1e18}};
    for (uint64_t i = 0; i < n; i++) {
        int kind = (int)(i % KINDS);
        request_t r = request_begin(rig, kind);
        uint64_t before = instructions();
        double begin = now_ns();
        request_run(&r, kind);
        mh_stream_free(r.stream);
        double took = r.ns + now_ns() - begin;
        if (kind == 0) {
            counted += r.instructions + instructions() - before;
            small++;
        }
        window[kind] += took;
        result->sum_ns[kind] += took;
        result->n[kind]++;
        if (++in_window[kind] == WINDOW) {
            double mean = window[kind] / WINDOW;
            result->best_ns[kind] = mean < result->best_ns[kind] ? mean : result->best_ns[kind];
            window[kind] = 0;
            in_window[kind] = 0;
        }
    }
    result->instructions = small != 0 ? counted / small : 0;
}

/* Pages of a small request that differ from the image before it is restored. */
static size_t dirty_pages(rig_t *rig) {
    request_t r = request_begin(rig, 0);
    request_run(&r, 0);
    pw_stream_log(r.pw);
    const sl_instance_t *in = r.pw->at[0].ctx.root->vm->instance;
    sl_image_t *image = pw_pool_image(rig->filter->pool);
    sl_str_t memory = image != NULL ? sl_image_memory(image) : SL_STR_NULL;
    size_t pages = 0;
    for (size_t at = 0; at + 4096 <= memory.len; at += 4096) {
        pages += memcmp(memory.data + at, in->mem + at, 4096) != 0;
    }
    mh_stream_free(r.stream);
    return pages;
}

static uint64_t private_kib(void) {
    FILE *f = fopen("/proc/self/smaps_rollup", "r");
    char line[256];
    uint64_t kib = 0, n;
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        kib += sscanf(line, "Private_Dirty: %" SCNu64, &n) == 1 ? n : 0;
    }
    if (f != NULL) {
        fclose(f);
    }
    return kib;
}

/* Instances that are all in use at once, after a small request each. */
static uint64_t instance_kib(rig_t *rig) {
    request_t all[MANY];
    uint64_t before = private_kib();
    for (int i = 0; i < MANY; i++) {
        all[i] = request_begin(rig, 0);
        request_run(&all[i], 0);
    }
    uint64_t after = private_kib();
    for (int i = 0; i < MANY; i++) {
        mh_stream_free(all[i].stream);
    }
    return after > before ? (after - before) / MANY : 0;
}

/* ---- after a trap ---- */

static double request_ns(rig_t *rig, bool traps) {
    pw_out_t out;
    request_t r = request_begin(rig, 0);
    double begin = now_ns();
    pw_verdict_t verdict = pw_stream_headers(r.pw, PW_DIR_REQUEST, true, &out);
    if (verdict == PW_CONTINUE) {
        verdict = pw_stream_headers(r.pw, PW_DIR_RESPONSE, true, &out);
    }
    if ((verdict == PW_FAIL) != traps) {
        die("after a trap", "the filter is not as it should be");
    }
    mh_stream_free(r.stream);
    return r.ns + now_ns() - begin;
}

static void recovery_row(const char *name, const char *path, bool reset) {
    enum { TRAPS = 100 };
    rig_t rig;
    double best = 1e18, sum = 0, other = 1e18;
    set_up(&rig, path, SL_ISOLATION_SHARED, SL_DIRTY_AUTO);
    if (!reset) {
        ((sl_module_info_t *)(uintptr_t)sl_module_info(rig.module))->no_image = "for comparison";
    }
    request_ns(&rig, false);
    for (int i = 0; i < TRAPS; i++) {
        const sl_instance_t *in = rig.filter->root->vm->instance;
        if (mprotect(in->mem, in->mem_size, PROT_NONE) != 0) {
            die(name, "memory cannot be taken away");
        }
        request_ns(&rig, true);
        double took = request_ns(&rig, false);
        double usual = request_ns(&rig, false);
        other = usual < other ? usual : other;
        best = took < best ? took : best;
        sum += took;
    }
    pw_stats_t stats = pw_worker_stats(mh_worker(rig.mh));
    if (reset ? stats.vms_reset != TRAPS : stats.vms_created != TRAPS + 1) {
        die(name, "was not brought back that way");
    }
    printf("%-6s %-22s %10.2f %10.2f %10s %12s %7s %9s\n", name, reset ? "after a trap, reset" : "after a trap, restart",
           (best - other) / 1e3, (sum / TRAPS - other) / 1e3, "", "", "", "");
    fflush(stdout);
    tear_down(&rig);
}

/* ---- the table ---- */

static void row(const char *name, const char *level, const char *path, sl_isolation_t isolation, sl_dirty_t dirty, uint64_t n) {
    rig_t rig;
    result_t r;
    set_up(&rig, path, isolation, dirty);
    double other = overhead_ns(&rig);
    bool pooled = rig.filter->pool != NULL;
    bool fresh = strcmp(level, "fresh") == 0;
    if (fresh) {
        pw_pool_forget_image(rig.filter->pool);
    }
    char pages[16] = "-";
    uint64_t kib = pooled ? instance_kib(&rig) : 0;
    measure(&rig, n, &r);
    if (pooled && !fresh) {
        snprintf(pages, sizeof(pages), "%zu", dirty_pages(&rig));
    }
    char count[24] = "-"; /* no such counter here, as in most virtual machines */
    if (r.instructions != 0) {
        snprintf(count, sizeof(count), "%" PRIu64, r.instructions);
    }
    printf("%-6s %-22s %10.2f %10.2f %10.2f %12s %7s %9" PRIu64 "\n", name, level, (r.best_ns[0] - other) / 1e3,
           (r.sum_ns[0] / (double)r.n[0] - other) / 1e3, (r.best_ns[3] - other) / 1e3, count, pages, kib);
    fflush(stdout);
    tear_down(&rig);
}

static void table(const char *name, const char *path, uint64_t n) {
    if (access(path, R_OK) != 0) {
        printf("%-6s %s is not there\n", name, path);
        return;
    }
    row(name, "shared", path, SL_ISOLATION_SHARED, SL_DIRTY_AUTO, n);
    row(name, "request", path, SL_ISOLATION_REQUEST, SL_DIRTY_AUTO, n);
    row(name, "request, PAGEMAP_SCAN", path, SL_ISOLATION_REQUEST, SL_DIRTY_SCAN, n);
    row(name, "request, pagemap", path, SL_ISOLATION_REQUEST, SL_DIRTY_PAGEMAP, n);
    recovery_row(name, path, true);
    recovery_row(name, path, false);
    row(name, "fresh", path, SL_ISOLATION_REQUEST, SL_DIRTY_AUTO, n < 400 ? n : 400);
}

int main(int argc, char **argv) {
    static const char *const modules[][2] = {
        {"c", "build/filters/my-c-filter.wasm"}, {"rust", "build/filters/my-rust-filter.wasm"}, {"go", "build/filters/my-go-filter.wasm"}};
    uint64_t n = 100000;
    int first = 1;
    if (argc > 2 && strcmp(argv[1], "-n") == 0) {
        n = strtoull(argv[2], NULL, 10);
        first = 3;
    }
    make_headers();
    open_counter();
    printf("%-6s %-22s %10s %10s %10s %12s %7s %9s\n", "", "", "us, small", "us, mean", "us, large", "instructions", "pages", "KiB each");
    for (size_t i = 0; i < 3 && first == argc; i++) {
        table(modules[i][0], modules[i][1], n);
    }
    for (int i = first; i < argc; i++) {
        char *path = strchr(argv[i], '=');
        if (path == NULL) {
            die(argv[i], "expected name=path");
        }
        *path = '\0';
        table(argv[i], path + 1, n);
    }
    return 0;
}
