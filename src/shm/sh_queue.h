/*
 * Shared queues: (vm_id, name) -> items, first in first out, in a region that several processes share (see sh_zone.h for the lock, its
 * loss and resets). Queues stay; their memory is the region's, so a queue with a ceiling of its own is one with a region of its own.
 *
 * Listeners are root contexts in processes. The one that registered last is to be told of each item once; when it goes, the one before
 * it takes over, with what has not been told yet. What is not told waits for the next listener. How a listener is woken is the
 * caller's matter: operations say who is to be told, and that one asks sh_queue_take how many items it has to tell.
 */
#ifndef SH_QUEUE_H
#define SH_QUEUE_H

#include "sh_zone.h"
#include "sl_buf.h"

typedef struct {
    uint32_t pid;    /* 0: nobody */
    uint32_t slot;   /* of the worker */
    uint32_t serial; /* of the registration, within the process */
} sh_listener_t;

typedef struct {
    sh_zone_t zone;
} sh_queues_t;

sl_status_t sh_queues_open(sh_queues_t *qs, void *mem, size_t size_bytes, bool fresh, uint64_t seed,
                           const sh_env_t *env); /* see sh_zone_open */

/* A number that no queue of this region's id space has. Regions that share an id space take it from one of them. Never 0. */
uint32_t sh_queue_new_id(sh_queues_t *qs);
/*
 * Makes the queue if it is not there, with this id, and puts the listener in front. *id is the queue's, *tell who is to be told now.
 * `id` 0: SL_NOT_FOUND if it is not there.
 */
sl_status_t sh_queue_register(sh_queues_t *qs, sl_str_t vm_id, sl_str_t name, sh_listener_t listener, uint32_t *id, sh_listener_t *tell);
sl_status_t sh_queue_resolve(sh_queues_t *qs, sl_str_t vm_id, sl_str_t name, uint32_t *id); /* SL_NOT_FOUND */
bool sh_queue_exists(sh_queues_t *qs, uint32_t id);

sl_status_t sh_queue_push(sh_queues_t *qs, uint32_t id, sl_str_t data, sh_listener_t *tell); /* SL_NOT_FOUND, SL_NO_MEMORY: full */
/* Appends to *data. SL_NOT_FOUND: no such queue; SL_AGAIN: empty; SL_NO_MEMORY: does not fit into the buffer, the item stays. */
sl_status_t sh_queue_pop(sh_queues_t *qs, uint32_t id, sl_buf_t *data);

/* How many items the listener has to tell of now, at most `max`; each is handed out once. 0 for one that is not in front. */
uint32_t sh_queue_take(sh_queues_t *qs, uint32_t id, sh_listener_t listener, uint32_t max);
/* The listener goes. *tell: who has to tell of what is left. */
void sh_queue_forget(sh_queues_t *qs, uint32_t id, sh_listener_t listener, sh_listener_t *tell);
/* Removes listeners whose process is gone. told: who has to tell now, per queue where that changed. */
void sh_queues_purge(sh_queues_t *qs, bool (*alive)(void *ud, sh_listener_t listener), void (*tell)(void *ud, sh_listener_t listener),
                     void *ud);

/* Makes the queues of another region, with their ids and items, without listeners, as far as there is room. `to` must be new. */
void sh_queues_copy(sh_queues_t *to, sh_queues_t *from);

typedef struct {
    sl_str_t vm_id, name; /* borrowed for the call */
    uint32_t id, items, listeners;
    uint64_t bytes;                   /* of the items' data */
    uint64_t pushed, popped, refused; /* since the queue was made */
} sh_queue_view_t;
/* As sh_kv_page. */
void sh_queues_page(sh_queues_t *qs, uint64_t *cursor, size_t n, void (*each)(void *ud, const sh_queue_view_t *queue), void *ud);

typedef struct {
    size_t queues, used_bytes, total_bytes;
    uint32_t resets;
} sh_queues_stats_t;
sh_queues_stats_t sh_queues_stats(sh_queues_t *qs);

const char *sh_queues_check(const sh_queues_t *qs); /* as sh_zone_check */

#endif
