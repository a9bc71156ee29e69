/*
 * Sequences of operations on shared data and queues in a small region, against naive models. The input is a program: the first byte chooses
 * region size and policy, then an operation and its arguments follow each other. After each operation the region must be sound.
 */
#include <stdio.h>
#include <stdlib.h>

#include "sh_kv.h"
#include "sh_queue.h"

#define KEYS 16
#define QUEUES 4
#define DEEP 64
#define VALUE_MAX 4096

typedef struct {
    const uint8_t *at, *end;
} input_t;

typedef struct {
    bool there;
    uint32_t cas;
    size_t len;
    uint8_t fill;
} value_t;

typedef struct {
    uint32_t id;
    size_t len[DEEP];
    size_t first, n;
} queue_t;

static uint8_t bytes[VALUE_MAX];

static void must(bool ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "fuzz_shm: %s\n", what);
        abort();
    }
}

static void sound(const char *wrong) {
    must(wrong == NULL, wrong);
}

static void nothing(void *ud) {
    (void)ud;
}

static const sh_env_t env = {.lock = nothing, .unlock = nothing};

static uint8_t next(input_t *in) {
    return in->at < in->end ? *in->at++ : 0;
}

static size_t next_len(input_t *in) {
    size_t n = next(in);
    return n < 200 ? n : (n - 199) * 73 % VALUE_MAX;
}

/* Short and long keys; different vm_ids have the same ones. */
static sl_str_t key_of(unsigned i) {
    static const char text[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    return sl_str(text, i / 2 % (KEYS / 2) * 4);
}

static sl_str_t vm_of(unsigned i) {
    return i % 2 == 0 ? SL_STR_NULL : SL_STR("vm");
}

/* ---- shared data ---- */

static void kv_check(sh_kv_t *kv, value_t *model, unsigned i, sl_buf_t *buf, bool may_go) {
    uint32_t cas = 0;
    sl_buf_reset(buf);
    sl_status_t rc = sh_kv_get(kv, vm_of(i), key_of(i), buf, &cas);
    if (rc == SL_NOT_FOUND && may_go) {
        model[i].there = false;
    }
    must(rc == (model[i].there ? SL_OK : SL_NOT_FOUND), "an entry is there or not, unlike the model");
    must(!model[i].there || (cas == model[i].cas && buf->len == model[i].len), "an entry differs from the model");
    for (size_t k = 0; model[i].there && k < buf->len; k++) {
        must((uint8_t)buf->data[k] == model[i].fill, "a value differs from the model");
    }
}

static void kv_set(sh_kv_t *kv, value_t *model, input_t *in, sl_buf_t *buf, bool may_go) {
    unsigned i = next(in) % KEYS;
    size_t len = next_len(in);
    uint8_t how = next(in);
    uint32_t given = 0;
    kv_check(kv, model, i, buf, may_go);
    uint32_t cas = how % 4 == 0 ? model[i].cas : how % 4 == 1 ? SH_CAS_NEVER : SH_CAS_ANY;
    memset(bytes, how, len);
    sl_status_t rc = sh_kv_set(kv, vm_of(i), key_of(i), sl_str(bytes, len), cas, &given);
    if (model[i].there && cas != SH_CAS_ANY && cas != model[i].cas) {
        must(rc == SL_CONFLICT, "a wrong CAS value was taken");
    } else if (rc != SL_NO_MEMORY) {
        must(rc == SL_OK && given != 0 && given != SH_CAS_NEVER, "a write failed");
        model[i] = (value_t){.there = true, .cas = given, .len = len, .fill = how};
    }
}

static void kv_remove(sh_kv_t *kv, value_t *model, input_t *in, sl_buf_t *buf, bool may_go) {
    unsigned i = next(in) % KEYS;
    kv_check(kv, model, i, buf, may_go);
    must(sh_kv_remove(kv, vm_of(i), key_of(i), SH_CAS_ANY) == (model[i].there ? SL_OK : SL_NOT_FOUND), "removing went wrong");
    model[i].there = false;
}

static void kv_count(void *ud, const sh_kv_entry_t *entry) {
    (void)entry;
    ++*(size_t *)ud;
}

static void kv_pages(sh_kv_t *kv) {
    uint64_t cursor = 0;
    size_t n = 0;
    do {
        sh_kv_page(kv, &cursor, 3, kv_count, &n);
    } while (cursor != 0);
    must(n == sh_kv_stats(kv).entries, "pages show another number of entries");
}

static void run_kv(void *mem, size_t size, sh_evict_t policy, input_t *in, sl_buf_t *buf) {
    value_t model[KEYS] = {0};
    sh_kv_t kv;
    if (sh_kv_open(&kv, mem, size, true, 1, policy, &env) != SL_OK) {
        return;
    }
    while (in->at < in->end) {
        switch (next(in) % 8) {
        case 0:
            kv_remove(&kv, model, in, buf, policy != SH_EVICT_NONE);
            break;
        case 1:
            kv_check(&kv, model, next(in) % KEYS, buf, policy != SH_EVICT_NONE);
            break;
        case 2:
            kv_pages(&kv);
            break;
        default:
            kv_set(&kv, model, in, buf, policy != SH_EVICT_NONE);
        }
        sound(sh_kv_check(&kv));
    }
}

/* ---- queues ---- */

static void queue_push(sh_queues_t *qs, queue_t *q, input_t *in) {
    size_t len = next_len(in);
    sh_listener_t tell;
    if (q->n == DEEP) {
        return;
    }
    sl_status_t rc = sh_queue_push(qs, q->id, sl_str(bytes, len), &tell);
    must(q->id != 0 ? rc == SL_OK || rc == SL_NO_MEMORY : rc == SL_NOT_FOUND, "pushing went wrong");
    if (rc == SL_OK) {
        q->len[(q->first + q->n++) % DEEP] = len;
    }
}

static void queue_pop(sh_queues_t *qs, queue_t *q, sl_buf_t *buf) {
    sl_buf_reset(buf);
    sl_status_t rc = sh_queue_pop(qs, q->id, buf);
    must(rc == (q->id == 0 ? SL_NOT_FOUND : q->n == 0 ? SL_AGAIN : SL_OK), "popping went wrong");
    if (rc == SL_OK) {
        must(buf->len == q->len[q->first], "an item differs from the model");
        q->first = (q->first + 1) % DEEP;
        q->n--;
    }
}

static void queue_register(sh_queues_t *qs, queue_t *q, unsigned i, input_t *in) {
    sh_listener_t who = {.pid = 1 + next(in) % 3, .slot = 0, .serial = next(in) % 3}, tell;
    uint32_t id = sh_queue_new_id(qs);
    if (sh_queue_register(qs, vm_of(i), key_of(i), who, &id, &tell) == SL_OK) {
        must(q->id == 0 || q->id == id, "a queue has changed its id");
        q->id = id;
    } else if (q->id == 0) {
        (void)sh_queue_resolve(qs, vm_of(i), key_of(i), &q->id); /* made, but there was no room for the listener */
    }
}

static bool odd(void *ud, sh_listener_t who) {
    (void)ud;
    return who.pid % 2 == 1;
}

static void told(void *ud, sh_listener_t who) {
    (void)ud;
    must(odd(NULL, who), "a dead listener is told");
}

static void run_queues(void *mem, size_t size, input_t *in, sl_buf_t *buf) {
    queue_t model[QUEUES] = {0};
    sh_queues_t qs;
    sh_listener_t who, tell;
    if (sh_queues_open(&qs, mem, size, true, 1, &env) != SL_OK) {
        return;
    }
    while (in->at < in->end) {
        uint8_t op = next(in);
        unsigned i = op / 8 % QUEUES;
        switch (op % 8) {
        case 0:
            queue_register(&qs, &model[i], i, in);
            break;
        case 1:
            who = (sh_listener_t){.pid = 1 + next(in) % 3, .slot = 0, .serial = next(in) % 3};
            sh_queue_forget(&qs, model[i].id, who, &tell);
            break;
        case 2:
            who = (sh_listener_t){.pid = 1 + next(in) % 3, .slot = 0, .serial = next(in) % 3};
            (void)sh_queue_take(&qs, model[i].id, who, next(in));
            break;
        case 3:
            sh_queues_purge(&qs, odd, told, NULL);
            break;
        case 4:
        case 5:
            queue_pop(&qs, &model[i], buf);
            break;
        default:
            queue_push(&qs, &model[i], in);
        }
        sound(sh_queues_check(&qs));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    input_t in = {data, data + len};
    uint8_t choice = next(&in);
    size_t size = 2048 + (size_t)(choice >> 3) * 512;
    uint8_t *mem = aligned_alloc(16, size);
    sl_buf_t buf;
    if (mem == NULL) {
        return 0;
    }
    sl_buf_init(&buf, 1 << 20);
    if (choice % 4 == 3) {
        run_queues(mem, size, &in, &buf);
    } else {
        run_kv(mem, size, (sh_evict_t)(choice % 4), &in, &buf);
    }
    sl_buf_deinit(&buf);
    free(mem);
    return 0;
}
