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
 * away.
 *
 * Instructions are those of a small request and what follows it, in user mode, less those of a stream through no filter. Where the kernel
 * does not count them, the program runs a second time under callgrind, which sees the requests alone (at the levels shared, request
 * and fresh); the table says who counted. Pages are 4 KiB. `differ`: pages of a small request that are not as in the image; `written`:
 * those that were copied back. Memory is what 40 instances in use at once add to the private pages of the process, for each: of linear
 * memory, and all of it. A pooled instance's linear memory may be no more than the pages that it has written: the program fails if it is.
 */
#include <inttypes.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#else /* never runs under it, then */
#define CALLGRIND_TOGGLE_COLLECT
#define CALLGRIND_START_INSTRUMENTATION
#define CALLGRIND_STOP_INSTRUMENTATION
#define CALLGRIND_DUMP_STATS
#endif

#include "linear_memory.h"
#include "mh.h"
#include "pw_internal.h"
#include "sl_file.h"

enum { WINDOW = 50, KINDS = 4, MANY = 40, BODY = 65536, LEVELS = 3, COUNTED = 200, COUNTED_FRESH = 10, COUNTING_S = 900 };

typedef struct {
    double best_ns[KINDS], sum_ns[KINDS];
    uint64_t n[KINDS];
    uint64_t instructions; /* per small request */
} result_t;

typedef struct {
    uint64_t linear_kib, all_kib; /* for each instance */
    double written;               /* pages of linear memory */
} memory_t;

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
static bool too_much_memory;
static bool no_budgets;

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

static void compile(rig_t *rig, const char *path, sl_dirty_t dirty) {
    sl_engine_conf_t conf = {.dirty = dirty};
    sl_err_t err;
    sl_buf_t bytes;
    sl_buf_init(&bytes, (size_t)256 << 20);
    if (sl_engine_new(&conf, &rig->engine, &err) != SL_OK || sl_file_read(path, &bytes, &err) != SL_OK ||
        sl_module_compile(rig->engine, sl_buf_str(&bytes), &rig->module, &err) != SL_OK) {
        die(path, err.text);
    }
    sl_buf_deinit(&bytes);
}

static void start(rig_t *rig, sl_isolation_t isolation, const char *image_folder) {
    mh_conf_t conf = {.limits = {.image_folder = image_folder}};
    pw_filter_conf_t filter = {.name = SL_STR("bench"), .module = rig->module};
    sl_err_t err;
    sl_filter_opts_init(&filter.opts);
    filter.opts.isolation = (uint8_t)isolation;
    filter.opts.breaker_traps = 0; /* recovery is measured, not its absence */
    filter.opts.set |= SL_FOPT_BIT(BREAKER_TRAPS) | SL_FOPT_BIT(ISOLATION);
    if (no_budgets) {
        filter.opts.cpu_budget_ms = filter.opts.start_budget_ms = 0;
        filter.opts.set |= SL_FOPT_BIT(CPU_BUDGET_MS) | SL_FOPT_BIT(START_BUDGET_MS);
    }
    rig->mh = mh_new(&conf);
    mh_log_level_set(rig->mh, PW_LOG_CRITICAL);
    if (pw_filter_new(mh_worker(rig->mh), &filter, &rig->filter, &err) != SL_OK) {
        die("start", err.text);
    }
    rig->chain = pw_chain_new(mh_worker(rig->mh), (pw_filter_t *const[]){rig->filter}, 1, NULL);
}

static void set_up(rig_t *rig, const char *path, sl_isolation_t isolation, sl_dirty_t dirty) {
    compile(rig, path, dirty);
    start(rig, isolation, NULL);
}

static void stop(rig_t *rig) {
    pw_chain_unref(rig->chain);
    pw_filter_unref(rig->filter);
    mh_free(rig->mh);
}

static void tear_down(rig_t *rig) {
    stop(rig);
    sl_module_unref(rig->module);
    sl_engine_free(rig->engine);
}

typedef struct {
    double ns;
    uint64_t instructions;
} overhead_t;

/* A stream through no filter: what is not the filter's. */
static overhead_t overhead(rig_t *rig) {
    pw_chain_t *chain = rig->chain, *none = pw_chain_new(mh_worker(rig->mh), NULL, 0, NULL);
    overhead_t best = {1e18, UINT64_MAX};
    rig->chain = none;
    for (int round = 0; round < 200; round++) {
        double sum = 0;
        uint64_t counted = 0;
        for (int i = 0; i < WINDOW; i++) {
            request_t r = request_begin(rig, 0);
            uint64_t before = instructions();
            double begin = now_ns();
            mh_stream_free(r.stream);
            sum += r.ns + now_ns() - begin;
            counted += r.instructions + instructions() - before;
        }
        best.ns = sum / WINDOW < best.ns ? sum / WINDOW : best.ns;
        best.instructions = counted / WINDOW < best.instructions ? counted / WINDOW : best.instructions;
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

/* Private pages within a range. */
static uint64_t private_kib_of(const uint8_t *from, size_t size) {
    FILE *f = fopen("/proc/self/smaps", "r");
    char line[512];
    uint64_t kib = 0, n, begin, end;
    bool within = false;
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &begin, &end) == 2) {
            within = begin >= (uintptr_t)from && end <= (uintptr_t)from + size;
        } else if (within && sscanf(line, "Private_Dirty: %" SCNu64, &n) == 1) {
            kib += n;
        }
    }
    if (f != NULL) {
        fclose(f);
    }
    return kib;
}

/* Instances that are all in use at once, after a small request each. */
static memory_t instance_memory(rig_t *rig) {
    request_t all[MANY];
    const sl_instance_t *in[MANY];
    memory_t m = {0};
    uint64_t before = private_kib();
    for (int i = 0; i < MANY; i++) {
        all[i] = request_begin(rig, 0);
        request_run(&all[i], 0);
        pw_stream_log(all[i].pw);
        in[i] = all[i].pw->at[0].ctx.root->vm->instance;
    }
    uint64_t after = private_kib();
    for (int i = 0; i < MANY; i++) {
        m.linear_kib += private_kib_of(in[i]->mem, in[i]->mem_size);
    }
    m.linear_kib /= MANY;
    m.all_kib = after > before ? (after - before) / MANY : 0;
    bool kept = pw_pool_image(rig->filter->pool) != NULL;
    for (int i = 0; i < MANY; i++) {
        const uint8_t *base = in[i]->mem;
        mh_stream_free(all[i].stream);
        m.written += kept ? sl_linear_restored_pages(sl_linear_at(base)) : 0;
    }
    m.written /= MANY; /* at the end: a sum of fractions is a little less */
    return m;
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
    printf("%-6s %-22s %10.2f %10.2f\n", name, reset ? "after a trap, reset" : "after a trap, restart", (best - other) / 1e3,
           (sum / TRAPS - other) / 1e3);
    fflush(stdout);
    tear_down(&rig);
}

/* ---- the image of a shared instance, taken before its first stream ---- */

static double image_us(rig_t *rig) {
    pw_vm_t *vm = rig->filter->root->vm;
    pw_saved_free(vm->saved);
    vm->saved = NULL;
    double begin = now_ns();
    pw_saved_take(vm);
    double took = now_ns() - begin;
    if (vm->saved == NULL) {
        die("image", "none was taken");
    }
    return took / 1e3;
}

static double least_image_us(rig_t *rig) {
    double least = 1e18;
    for (int i = 0; i < WINDOW; i++) {
        double us = image_us(rig);
        least = us < least ? us : least;
    }
    return least;
}

static void image_row(const char *name, const char *path) {
    char folder[] = "/tmp/sluice-bench-XXXXXX", command[64];
    rig_t rig;
    if (mkdtemp(folder) == NULL) {
        die(name, "no folder for images");
    }
    set_up(&rig, path, SL_ISOLATION_SHARED, SL_DIRTY_AUTO);
    double first = image_us(&rig), anonymous = least_image_us(&rig);
    size_t size = rig.filter->root->vm->instance->mem_size;
    stop(&rig);
    start(&rig, SL_ISOLATION_SHARED, folder);
    double writes = image_us(&rig), finds = least_image_us(&rig);
    tear_down(&rig);
    snprintf(command, sizeof(command), "rm -r %s", folder);
    if (system(command) != 0) {
        die(folder, "cannot be removed");
    }
    printf("%-6s image before the first stream, of %zu KiB: anonymous %.0f us (again: %.0f); in a folder %.0f us, found there %.0f us\n",
           name, size >> 10, first, anonymous, writes, finds);
    fflush(stdout);
}

/* ---- instructions, under callgrind ---- */

static const struct {
    const char *name;
    sl_isolation_t isolation;
    bool fresh;
} levels[LEVELS] = {
    {"shared", SL_ISOLATION_SHARED, false}, {"request", SL_ISOLATION_REQUEST, false}, {"fresh", SL_ISOLATION_REQUEST, true}};

/* The proxy's own filling of maps is not collected. */
static void small_requests(rig_t *rig, int n, bool run) {
    static const pw_pair_t response[] = {{{":status", 7}, {"200", 3}}, {{"content-type", 12}, {"text/plain", 10}}};
    for (int i = 0; i < n; i++) {
        CALLGRIND_TOGGLE_COLLECT;
        request_t r = {.stream = mh_stream_new(rig->mh, rig->chain)};
        CALLGRIND_TOGGLE_COLLECT;
        if (r.stream == NULL || mh_map_fill(r.stream, PW_MAP_REQUEST_HEADERS, headers, 10) != SL_OK ||
            mh_map_fill(r.stream, PW_MAP_RESPONSE_HEADERS, response, 2) != SL_OK) {
            die("stream", "out of memory");
        }
        r.pw = mh_stream_pw(r.stream);
        CALLGRIND_TOGGLE_COLLECT;
        if (run) {
            request_run(&r, 0);
        }
        mh_stream_free(r.stream);
        CALLGRIND_TOGGLE_COLLECT;
    }
}

static int requests_of(int level) {
    return levels[level].fresh ? COUNTED_FRESH : COUNTED;
}

static void count_small(rig_t *rig, int n, bool run) {
    CALLGRIND_START_INSTRUMENTATION;
    small_requests(rig, n, run);
    CALLGRIND_STOP_INSTRUMENTATION;
    CALLGRIND_DUMP_STATS;
}

/* In the second process: a dump for a stream through no filter, and one for each level. In the first requests pages become hot. */
static int count_levels(const char *path) {
    rig_t rig;
    compile(&rig, path, SL_DIRTY_AUTO);
    no_budgets = true; /* a minute here is a second elsewhere */
    for (int i = 0; i < LEVELS; i++) {
        start(&rig, levels[i].isolation, NULL);
        if (levels[i].fresh) {
            pw_pool_forget_image(rig.filter->pool);
        }
        if (i == 0) {
            pw_chain_t *chain = rig.chain;
            rig.chain = pw_chain_new(mh_worker(rig.mh), NULL, 0, NULL);
            count_small(&rig, COUNTED, false);
            pw_chain_unref(rig.chain);
            rig.chain = chain;
        }
        small_requests(&rig, levels[i].fresh ? 1 : 50, true);
        count_small(&rig, requests_of(i), true);
        stop(&rig);
    }
    return 0;
}

/* Of the n-th dump; 0: there is none. */
static uint64_t dumped(const char *folder, int n) {
    char path[64], line[512];
    uint64_t total = 0;
    snprintf(path, sizeof(path), "%s/out.%d", folder, n);
    FILE *f = fopen(path, "r");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        sscanf(line, "totals: %" SCNu64, &total);
    }
    if (f != NULL) {
        fclose(f);
    }
    return total;
}

/* Guests' memory is write-protected: without the px options, valgrind resumes such a write with registers of later instructions. */
static int run_callgrind(const char *folder, const char *path) {
    char out[64], self[512];
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
    self[len > 0 ? len : 0] = '\0';
    snprintf(out, sizeof(out), "--callgrind-out-file=%s/out", folder);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(COUNTING_S); /* stays over the exec */
        execlp("valgrind", "valgrind", "--px-default=allregs-at-mem-access", "--px-file-backed=allregs-at-mem-access", "--tool=callgrind",
               "--instr-atstart=no", "--collect-atstart=no", "--log-file=/dev/null", out, self, "--count", path, (char *)NULL);
        _exit(127);
    }
    int status = -1;
    return pid < 0 || waitpid(pid, &status, 0) != pid ? -1 : status;
}

/* Per small request, by level; 0 and a line that says why where there is none. */
static void count_under_callgrind(const char *name, const char *path, uint64_t *counts) {
    char folder[] = "/tmp/sluice-bench-XXXXXX", command[64];
    if (mkdtemp(folder) == NULL) {
        die(name, "no folder for counts");
    }
    fprintf(stderr, "%s: counting under callgrind, where a large module takes minutes to compile\n", name);
    int status = run_callgrind(folder, path);
    uint64_t other = dumped(folder, 1) / COUNTED;
    for (int i = 0; i < LEVELS; i++) {
        counts[i] = dumped(folder, i + 2) / (uint64_t)requests_of(i);
        if (counts[i] > other) {
            counts[i] -= other;
            continue;
        }
        counts[i] = 0;
        const char *why = status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == 127 ? "valgrind is not installed"
                          : status != -1 && WIFSIGNALED(status)                           ? strsignal(WTERMSIG(status))
                                                                                          : "the run under callgrind failed";
        printf("%-6s %s: instructions not counted: %s\n", name, levels[i].name, why);
    }
    snprintf(command, sizeof(command), "rm -r %s", folder);
    if (system(command) != 0) {
        die(folder, "cannot be removed");
    }
}

/* ---- the table ---- */

static void check_memory(const char *name, const char *level, const memory_t *m) {
    bool fits = (double)m->linear_kib <= 4 * m->written;
    printf("%-6s %s: %" PRIu64 " KiB of memory of a pooled instance, %.0f written pages are %.0f KiB: %s\n", name, level, m->linear_kib,
           m->written, 4 * m->written, fits ? "no more than these" : "MORE than these");
    too_much_memory |= !fits;
}

/* counted: by callgrind; 0: not. Answers the microseconds of a small request. */
static double row(const char *name, const char *level, const char *path, sl_isolation_t isolation, sl_dirty_t dirty, uint64_t n,
                  uint64_t counted, memory_t *memory) {
    rig_t rig;
    result_t r;
    set_up(&rig, path, isolation, dirty);
    overhead_t other = overhead(&rig);
    bool pooled = rig.filter->pool != NULL;
    bool fresh = strcmp(level, "fresh") == 0;
    if (fresh) {
        pw_pool_forget_image(rig.filter->pool);
    }
    char differ[16] = "-", written[16] = "-", count[24] = "-";
    *memory = pooled ? instance_memory(&rig) : (memory_t){0};
    measure(&rig, n, &r);
    if (pooled && !fresh) {
        snprintf(differ, sizeof(differ), "%zu", dirty_pages(&rig));
        snprintf(written, sizeof(written), "%.0f", memory->written);
    }
    counted = r.instructions > other.instructions ? r.instructions - other.instructions : counted;
    if (counted != 0) {
        snprintf(count, sizeof(count), "%" PRIu64, counted);
    }
    printf("%-6s %-22s %10.2f %10.2f %10.2f %12s %7s %8s %11" PRIu64 " %9" PRIu64 "\n", name, level, (r.best_ns[0] - other.ns) / 1e3,
           (r.sum_ns[0] / (double)r.n[0] - other.ns) / 1e3, (r.best_ns[3] - other.ns) / 1e3, count, differ, written, memory->linear_kib,
           memory->all_kib);
    fflush(stdout);
    tear_down(&rig);
    return (r.best_ns[0] - other.ns) / 1e3;
}

/* Of a small request with what brings its instance back, by the way that the start chooses. */
static void check_target(const char *name, double us) {
    static const struct {
        const char *name;
        double us;
    } targets[] = {{"c", 1.5}, {"rust", 2.2}, {"go", 8}};
    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        if (strcmp(name, targets[i].name) == 0) {
            printf("%-6s request: %.2f us, target %.1f us: %s\n", name, us, targets[i].us, us <= targets[i].us ? "met" : "missed");
        }
    }
}

static void table(const char *name, const char *path, uint64_t n) {
    uint64_t counts[LEVELS] = {0};
    memory_t memory, pooled[3];
    if (access(path, R_OK) != 0) {
        printf("%-6s %s is not there\n", name, path);
        return;
    }
    if (instructions() == 0) {
        count_under_callgrind(name, path, counts);
    }
    row(name, "shared", path, SL_ISOLATION_SHARED, SL_DIRTY_AUTO, n, counts[0], &memory);
    double us = row(name, "request", path, SL_ISOLATION_REQUEST, SL_DIRTY_AUTO, n, counts[1], &pooled[0]);
    row(name, "request, PAGEMAP_SCAN", path, SL_ISOLATION_REQUEST, SL_DIRTY_SCAN, n, 0, &pooled[1]);
    row(name, "request, pagemap", path, SL_ISOLATION_REQUEST, SL_DIRTY_PAGEMAP, n, 0, &pooled[2]);
    recovery_row(name, path, true);
    recovery_row(name, path, false);
    row(name, "fresh", path, SL_ISOLATION_REQUEST, SL_DIRTY_AUTO, n < 400 ? n : 400, counts[2], &memory);
    check_target(name, us);
    check_memory(name, "request", &pooled[0]);
    check_memory(name, "request, PAGEMAP_SCAN", &pooled[1]);
    check_memory(name, "request, pagemap", &pooled[2]);
    image_row(name, path);
}

static void heading(void) {
    sl_engine_t *engine;
    sl_err_t err;
    if (sl_engine_new(NULL, &engine, &err) != SL_OK) {
        die("engine", err.text);
    }
    printf("instructions: counted by %s; the start chooses here, for the level request: %s\n",
           instructions() != 0 ? "the kernel" : "callgrind, in another run", sl_engine_dirty_name(engine));
    sl_engine_free(engine);
    printf("%-6s %-22s %10s %10s %10s %12s %7s %8s %11s %9s\n", "", "", "us, small", "us, mean", "us, large", "instructions", "differ",
           "written", "linear KiB", "KiB each");
    fflush(stdout);
}

int main(int argc, char **argv) {
    static const char *const modules[][2] = {
        {"c", "build/filters/my-c-filter.wasm"}, {"rust", "build/filters/my-rust-filter.wasm"}, {"go", "build/filters/my-go-filter.wasm"}};
    uint64_t n = 100000;
    int first = 1;
    make_headers();
    if (argc == 3 && strcmp(argv[1], "--count") == 0) {
        return count_levels(argv[2]);
    }
    if (argc > 2 && strcmp(argv[1], "-n") == 0) {
        n = strtoull(argv[2], NULL, 10);
        first = 3;
    }
    open_counter();
    heading();
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
    return too_much_memory;
}
