/*
 * Time slices: filters marked `slice`.
 *
 * The core is written as if callbacks returned. So what may enter a sliced VM runs as a job, on a stack of its own: an operation on a
 * stream (headers, body, ..., its end) or an event of a root context. Inside of pw_vm_call() the job stops when the guest's slice is used
 * up, or while another job is in that VM. The proxy goes on with other events and comes back through pw_worker_run(), one slice at a time.
 *
 *   ready:   jobs that go on at the next pw_worker_run(), in turn
 *   waiting: of a VM, jobs that want to enter it, first come first served
 *
 * An operation that does not end within its first slice answers PW_WAIT, and its outcome is the answer of the next pw_stream_resume() after
 * the wake() that it causes. What the proxy gives meanwhile is kept and done in order. A stream that is freed in the middle goes on
 * without the proxy to the end of the call that runs, or, when its instance is its own, the call is ended.
 */
#ifndef PW_SLICE_H
#define PW_SLICE_H

#include "pw_internal.h"

/* ---- jobs ---- */

/* Runs fn(arg) as a job, for the first slice at once. SL_AGAIN: it goes on later. SL_NO_MEMORY: it has not begun. */
sl_status_t pw_job_run(pw_worker_t *worker, sl_engine_t *engine, void (*fn)(void *arg), void *arg);
/* All of them are ended, for the end of the worker. */
void pw_jobs_end(pw_worker_t *worker);

/* ---- VMs ---- */

/* The running job has the VM for itself until it leaves, as often as it has entered. SL_TRAP: the VM has failed, or the job is to end. */
sl_status_t pw_slice_enter(pw_vm_t *vm, sl_err_t *err);
void pw_slice_leave(pw_vm_t *vm);
bool pw_slice_ending(const pw_worker_t *worker); /* the running job is to end */
/* sl_instance_call() for a VM that has been entered. */
sl_status_t pw_slice_call(pw_vm_t *vm, sl_func_t *func, sl_raw_t *args, uint32_t cpu_budget_ms, bool *over_budget, sl_err_t *err);

/* ---- events of root contexts: false: no memory, nothing was done ---- */

/* fn(root, arg) in a job, with the VM entered. `arg` must not be needed after the return. */
typedef void (*pw_event_fn)(pw_root_t *root, const void *arg);
/* Copies arg_size bytes of arg. */
bool pw_slice_event(pw_root_t *root, pw_event_fn fn, const void *arg, size_t arg_size);
/* on_delete, on_done: without the VM entered, so that it may go. The root is kept by its caller. */
bool pw_slice_root(pw_root_t *root, void (*fn)(pw_root_t *root));

/* Events that come with bytes: copies, which end with the job. */
typedef struct {
    uint32_t token;
    uint32_t status;
    bool failed;
    sl_str_t text; /* how a call failed, a status message; may be NULL */
    sl_str_t data; /* body or message */
    const pw_pair_t *pairs[2];
    size_t n_pairs[2];
} pw_event_data_t;
typedef void (*pw_event_data_fn)(pw_root_t *root, const pw_event_data_t *data);
bool pw_slice_data_event(pw_root_t *root, pw_event_data_fn fn, const pw_event_data_t *data);

/* ---- streams ---- */

typedef enum { PW_OP_HEADERS, PW_OP_BODY, PW_OP_TRAILERS, PW_OP_RESUME, PW_OP_LOG, PW_OP_FREE } pw_op_kind_t;

pw_slices_t *pw_slices_new(void);
void pw_slices_free(pw_slices_t *slices); /* NULL is fine */
pw_verdict_t pw_slices_do(pw_stream_t *s, pw_op_kind_t kind, pw_dir_t dir, const sl_str_t *segs, size_t n, bool eos, pw_out_t *out);
#define PW_SLICES_ANY 2
/* Something is under way in a direction (PW_SLICES_ANY: in one of them), or its outcome has not been fetched: nothing should be given. */
bool pw_slices_busy(const pw_stream_t *s, int dir);
void pw_slices_abort_request(pw_stream_t *s);
void pw_slices_log(pw_stream_t *s);
void pw_slices_end(pw_stream_t *s); /* pw_stream_free */

/* What the above call back, on the stack of a job. */
pw_verdict_t pw_pipe_headers(pw_stream_t *s, pw_dir_t dir, bool eos, pw_out_t *out);
pw_verdict_t pw_pipe_body(pw_stream_t *s, pw_dir_t dir, const sl_str_t *segs, size_t n, bool eos, pw_out_t *out);
pw_verdict_t pw_pipe_trailers(pw_stream_t *s, pw_dir_t dir, pw_out_t *out);
pw_verdict_t pw_pipe_resume(pw_stream_t *s, pw_dir_t dir, pw_out_t *out);
void pw_pipe_abort_request(pw_stream_t *s);
void pw_stream_log_now(pw_stream_t *s);
void pw_stream_release_calls(pw_stream_t *s); /* the proxy's stream goes, ours stays */
void pw_stream_free_now(pw_stream_t *s);

#endif
