/* Damaged images whose digest fits, and a reader that touches all there is: shared by the unit test and the fuzz target. */
#ifndef PLAN_DAMAGE_H
#define PLAN_DAMAGE_H

#include <stdlib.h>

#include "gw_plan.h"
#include "gw_plan_image.h"
#include "sl_digest.h"

/* Makes size and digest of the header fit what follows; false when it is too short for a header. */
static inline bool damage_seal(char *image, size_t len) {
    gw_img_header_t h;
    if (len < sizeof(h)) {
        return false;
    }
    memcpy(&h, image, sizeof(h));
    memcpy(h.magic, GW_IMG_MAGIC, sizeof(h.magic));
    h.format = GW_IMG_FORMAT;
    h.n_sections = GW_SEC_COUNT;
    h.size = len;
    memcpy(image, &h, sizeof(h));
    if (sl_sha256(sl_str(image + GW_IMG_HEAD_SIZE, len - GW_IMG_HEAD_SIZE), h.sha256) != SL_OK) {
        return false;
    }
    memcpy(image, &h, sizeof(h));
    return true;
}

static volatile unsigned damage_sum;

/* Reads each byte, so that the sanitizer sees them. */
static inline void damage_touch(sl_str_t s) {
    unsigned sum = 0;
    for (size_t i = 0; i < s.len; i++) {
        sum += (unsigned char)s.data[i];
    }
    damage_sum += sum;
}

static inline sl_str_t damage_header(void *ud, sl_str_t name, size_t i) {
    (void)ud;
    damage_touch(name);
    return i == 0 ? SL_STR("one") : i == 1 ? SL_STR("TWO") : SL_STR_NULL;
}

static inline void damage_match(gw_plan_t *plan, sl_buf_t *scratch, const char *host, const char *path, bool https) {
    gw_match_in_t in = {
        .method = SL_STR("GET"), .host = sl_cstr(host), .port = 8000, .path = sl_cstr(path), .https = https, .header = damage_header};
    in.sni = https ? SL_STR("a.test") : SL_STR_NULL;
    gw_match_t m;
    if (gw_plan_match(plan, &in, scratch, &m) != SL_OK) {
        return;
    }
    if (m.route >= gw_plan_n_routes(plan)) {
        abort();
    }
    damage_touch(m.matched_prefix);
    damage_touch(m.upstream_path);
}

static inline void damage_match_all(gw_plan_t *plan) {
    static const char *const hosts[] = {"a.test", "b.a.test:80", "a.", "x", ""};
    static const char *const paths[] = {"/", "/a", "/a/b/c", "/a/12", "/zz", "*"};
    sl_buf_t scratch;
    sl_buf_init(&scratch, 1 << 20);
    for (size_t h = 0; h < sizeof(hosts) / sizeof(hosts[0]); h++) {
        for (size_t p = 0; p < sizeof(paths) / sizeof(paths[0]); p++) {
            damage_match(plan, &scratch, hosts[h], paths[p], (h + p) % 2 == 0);
        }
    }
    sl_buf_deinit(&scratch);
}

static inline void damage_read_routes(const gw_plan_t *plan) {
    for (size_t i = 0; i < gw_plan_n_services(plan); i++) {
        gw_service_t s;
        gw_plan_service(plan, (uint32_t)i, &s);
        damage_touch(s.id), damage_touch(s.name), damage_touch(s.host), damage_touch(s.path);
    }
    for (size_t i = 0; i < gw_plan_n_routes(plan); i++) {
        gw_route_t r;
        gw_plan_route(plan, (uint32_t)i, &r);
        damage_touch(r.id), damage_touch(r.name);
        if ((r.has_service && r.service >= gw_plan_n_services(plan)) || (r.chain >= 0 && (size_t)r.chain >= gw_plan_n_chains(plan))) {
            abort();
        }
    }
}

static inline void damage_read_chains(const gw_plan_t *plan) {
    for (size_t i = 0; i < gw_plan_n_chains(plan); i++) {
        for (size_t k = 0; k < gw_plan_chain(plan, (uint32_t)i); k++) {
            gw_filter_t f;
            gw_plan_chain_filter(plan, (uint32_t)i, k, &f);
            damage_touch(f.name), damage_touch(f.config), damage_touch(f.chain_id), damage_touch(f.chain_name);
        }
    }
}

static inline void damage_read_entities(const gw_plan_t *plan) {
    static const char *const names[] = {"filter_chains", "routes", "services", "consumers", "nothing"};
    for (size_t c = 0; c < sizeof(names) / sizeof(names[0]); c++) {
        sl_str_t name = sl_cstr(names[c]);
        size_t n = gw_plan_entity_count(plan, name);
        for (size_t i = 0; i <= n; i++) {
            damage_touch(gw_plan_entity_at(plan, name, i));
        }
        damage_touch(gw_plan_entity(plan, name, SL_STR("some-key")));
        damage_touch(gw_plan_entity(plan, name, SL_STR("AAAAAAAA-0000-4000-8000-00000000000A")));
        if (gw_plan_entity_after(plan, name, SL_STR("r1")) > n) {
            abort();
        }
    }
}

/* Opens the image (a copy of exactly its size) and, when it is accepted, reads everything. True: it was accepted. */
static inline bool damage_read(const char *image, size_t len) {
    char *copy = malloc(len + 1);
    if (copy == NULL) {
        return false;
    }
    if (len > 0) {
        memcpy(copy, image, len);
    }
    char *exact = realloc(copy, len > 0 ? len : 1);
    copy = exact != NULL ? exact : copy;
    gw_plan_t *plan;
    sl_err_t err;
    bool accepted = gw_plan_open(sl_str(copy, len), &plan, &err) == SL_OK;
    if (accepted) {
        damage_touch(gw_plan_config_hash(plan));
        damage_read_routes(plan);
        damage_read_chains(plan);
        damage_read_entities(plan);
        damage_match_all(plan);
        gw_plan_close(plan);
    }
    free(copy);
    return accepted;
}

#endif
