/*
 * Ticks of root contexts as nginx timers. None keeps an exiting worker alive by itself; they go on as long as there are streams, which
 * may be waiting for them. And the alarm of the core.
 */
#include "ngx_sluice.h"

#include <ngx_event.h>

typedef struct {
    ngx_event_t event;
    ngx_sluice_conf_t *scf;
    pw_root_t *root;
    ngx_msec_t period;
    unsigned running : 1; /* pw_root_tick() is on the stack */
    unsigned gone : 1;    /* cancelled meanwhile */
} tick_t;

/* Debug builds of nginx print the descriptor of a timer's connection. */
static ngx_connection_t no_connection = {.fd = (ngx_socket_t)-1};

static ngx_uint_t ends(const ngx_sluice_conf_t *scf) {
    return ngx_exiting && ngx_queue_empty(&scf->streams);
}

static void tick_handler(ngx_event_t *event) {
    tick_t *tick = ngx_queue_data(event, tick_t, event);

    if (ends(tick->scf)) {
        return;
    }
    tick->running = 1;
    pw_root_tick(tick->root);
    tick->running = 0;
    if (tick->gone) {
        ngx_free(tick);
        return;
    }
    if (!event->timer_set) {
        ngx_add_timer(event, tick->period);
    }
}

static void tick_cancel(void **timer) {
    tick_t *tick = *timer;

    *timer = NULL;
    if (tick == NULL) {
        return;
    }
    if (tick->event.timer_set) {
        ngx_del_timer(&tick->event);
    }
    if (tick->running) {
        tick->gone = 1;
        return;
    }
    ngx_free(tick);
}

void ngx_sluice_tick_set(void *worker, pw_root_t *root, void **timer, uint32_t period_ms) {
    tick_t *tick = *timer;

    if (period_ms == 0) {
        tick_cancel(timer);
        return;
    }
    if (tick == NULL) {
        tick = ngx_calloc(sizeof(tick_t), ngx_cycle->log);
        if (tick == NULL) {
            return;
        }
        tick->scf = worker;
        tick->root = root;
        tick->event.handler = tick_handler;
        tick->event.data = &no_connection;
        tick->event.log = ngx_cycle->log;
        tick->event.cancelable = 1;
        *timer = tick;
    }
    tick->period = period_ms;
    if (tick->event.timer_set) {
        ngx_del_timer(&tick->event);
    }
    if (!tick->running && !ends(tick->scf)) {
        ngx_add_timer(&tick->event, tick->period);
    }
}

/* ---- the alarm ------------------------------------------------------------------------------------------------------------- */

static ngx_event_t alarm_event;

static void alarm_handler(ngx_event_t *event) {
    ngx_sluice_conf_t *scf = ngx_sluice_conf((ngx_cycle_t *)ngx_cycle);

    if (!ngx_exiting && scf->worker != NULL) {
        pw_worker_alarm(scf->worker);
    }
}

void ngx_sluice_alarm_set(void *worker, uint32_t ms) {
    if (alarm_event.timer_set) {
        ngx_del_timer(&alarm_event);
    }
    if (ms == 0 || ngx_exiting) {
        return;
    }
    alarm_event.handler = alarm_handler;
    alarm_event.data = &no_connection;
    alarm_event.log = ngx_cycle->log;
    alarm_event.cancelable = 1;
    ngx_add_timer(&alarm_event, ms);
}
