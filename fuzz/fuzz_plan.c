/*
 * Hostile plan images whose digest fits: they must be refused, or be safe to read in full. The first byte chooses: an image as it is
 * ('I', sealed again), or a sound image with patches (six bytes each: offset and value).
 */
#include <stdlib.h>

#include "../tests/unit/gateway/plan_damage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char entities_text[] =
    "{\"services\": {\"aaaaaaaa-0000-4000-8000-00000000000a\": {\"name\": \"some-key\", \"host\": \"up\", \"path\": \"/base\"}},"
    " \"routes\": {\"r1\": {\"paths\": [\"/a\", \"~/a/\\\\d+\", \"/\", \"/a/b\"], \"service\": {\"id\": "
    "\"aaaaaaaa-0000-4000-8000-00000000000a\"}},"
    "  \"r2\": {\"hosts\": [\"a.test\", \"*.a.test\", \"a.*\", \"b.a.test:80\"], \"headers\": {\"x-a\": [\"one\"], \"x-b\": [\"~*t.o\"]}, "
    "\"methods\": [\"GET\"]},"
    "  \"r3\": {\"snis\": [\"a.test\"]}},"
    " \"filter_chains\": {\"c1\": {\"service\": {\"id\": \"aaaaaaaa-0000-4000-8000-00000000000a\"}, \"filters\": [{\"name\": \"f\", "
    "\"config\": \"text\"}]},"
    "  \"c2\": {\"route\": {\"id\": \"r1\"}, \"filters\": [{\"name\": \"f\", \"config\": {\"b\": 1}}]}}}";

static void add_routes(json_t *entities, const char *prefix, const char *format) {
    for (int i = 0; i < 20; i++) {
        char id[16], text[128];
        snprintf(id, sizeof(id), "%s%d", prefix, i);
        snprintf(text, sizeof(text), format, i);
        json_object_set_new(json_object_get(entities, "routes"), id, json_loads(text, 0, NULL));
    }
}

/* Long enough lists that there are probes. */
static void build_base(sl_buf_t *image) {
    json_t *entities = json_loads(entities_text, 0, NULL);
    add_routes(entities, "h", "{\"paths\": [\"/zz\"], \"headers\": {\"x-a\": [\"%d\", \"two\"]}}");
    add_routes(entities, "s", "{\"paths\": [\"/zz\"], \"snis\": [\"%d.test\"]}");
    if (gw_plan_build(entities, &(gw_plan_conf_t){.generation = 1}, image, NULL) != SL_OK) {
        abort();
    }
    json_decref(entities);
}

static void read_patched(const uint8_t *data, size_t size) {
    static sl_buf_t base;
    if (base.data == NULL) {
        sl_buf_init(&base, SIZE_MAX);
        build_base(&base);
    }
    char *copy = malloc(base.len);
    if (copy == NULL) {
        return;
    }
    memcpy(copy, base.data, base.len);
    for (; size >= 6; data += 6, size -= 6) {
        size_t at = GW_IMG_HEAD_SIZE + ((size_t)(data[0] << 8 | data[1]) * 4) % (base.len - GW_IMG_HEAD_SIZE - 3);
        memcpy(copy + at, data + 2, 4);
    }
    if (damage_seal(copy, base.len)) {
        damage_read(copy, base.len);
    }
    free(copy);
}

static void read_whole(const uint8_t *data, size_t size) {
    char *copy = malloc(size + 1);
    if (copy == NULL) {
        return;
    }
    memcpy(copy, data, size);
    damage_read(copy, size);
    if (damage_seal(copy, size)) {
        damage_read(copy, size);
    }
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) {
        return 0;
    }
    if (data[0] == 'I') {
        read_whole(data + 1, size - 1);
    } else {
        read_patched(data + 1, size - 1);
    }
    return 0;
}
