#include "sl_ceiling.h"

static void use(sl_ceiling_t *c, size_t used) {
    c->used = used;
    if (c->changed != NULL) {
        c->changed(c->ud, used);
    }
}

bool sl_ceiling_take(sl_ceiling_t *c, size_t bytes) {
    if (c == NULL || bytes == 0) {
        return true;
    }
    if (bytes > SIZE_MAX - c->used || (c->max != 0 && (c->used > c->max || bytes > c->max - c->used))) {
        c->refused++;
        return false;
    }
    use(c, c->used + bytes);
    return true;
}

void sl_ceiling_hold(sl_ceiling_t *c, size_t bytes) {
    if (c != NULL && bytes != 0) {
        use(c, c->used + bytes);
    }
}

void sl_ceiling_give(sl_ceiling_t *c, size_t bytes) {
    if (c != NULL && bytes != 0) {
        use(c, c->used - bytes);
    }
}
