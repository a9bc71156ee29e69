#include "nd_image.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cmocka_all.h"
#include "gw_plan.h"
#include "sl_file.h"

typedef struct {
    char dir[64], path[96];
} env_t;

static int set_up(void **state) {
    env_t *x = calloc(1, sizeof(*x));
    assert_non_null(x);
    strcpy(x->dir, "/tmp/sluice-image-XXXXXX");
    assert_non_null(mkdtemp(x->dir));
    snprintf(x->path, sizeof(x->path), "%s/plan", x->dir);
    json_t *entities = json_pack("{s:{s:{s:s,s:s}}}", "services", "s1", "id", "s1", "host", "up.test");
    sl_buf_t image;
    sl_buf_init(&image, 1 << 20);
    assert_int_equal(gw_plan_build(entities, &(gw_plan_conf_t){.generation = 7}, &image, NULL), SL_OK);
    assert_int_equal(sl_file_write_atomic(x->path, sl_buf_str(&image), 0600, NULL), SL_OK);
    sl_buf_deinit(&image);
    json_decref(entities);
    *state = x;
    return 0;
}

static int tear_down(void **state) {
    env_t *x = *state;
    unlink(x->path);
    rmdir(x->dir);
    free(x);
    return 0;
}

static void damage(const char *path) {
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "damage", 6, 300), 6);
    assert_int_equal(ftruncate(fd, 400), 0);
    close(fd);
}

static void what_happens_to_the_file_does_not_reach_a_sealed_plan(void **state) {
    env_t *x = *state;
    int fd;
    gw_plan_t *plan;
    sl_err_t err;
    assert_int_equal(nd_image_seal(x->path, &fd, &err), SL_OK);
    assert_int_equal(gw_plan_open_sealed(fd, &plan, &err), SL_OK);
    close(fd);
    damage(x->path);
    gw_service_t service;
    gw_plan_service(plan, 0, &service);
    assert_true(sl_str_eq(service.host, SL_STR("up.test")));
    assert_int_equal(gw_plan_generation(plan), 7);
    gw_plan_close(plan);
}

static void a_sealed_plan_cannot_be_changed_by_who_has_its_descriptor(void **state) {
    env_t *x = *state;
    int fd;
    assert_int_equal(nd_image_seal(x->path, &fd, NULL), SL_OK);
    assert_true(pwrite(fd, "x", 1, 0) < 0);
    assert_true(ftruncate(fd, 0) < 0);
    assert_true(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
    close(fd);
}

static void memory_that_is_not_sealed_is_refused(void **state) {
    (void)state;
    gw_plan_t *plan;
    sl_err_t err;
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(fd >= 0);
    assert_int_equal(gw_plan_open_sealed(fd, &plan, &err), SL_FAILED);
    close(fd);
}

static void a_damaged_file_is_found_out_when_it_is_opened(void **state) {
    env_t *x = *state;
    int fd;
    gw_plan_t *plan;
    sl_err_t err;
    damage(x->path);
    assert_int_equal(nd_image_seal(x->path, &fd, &err), SL_OK);
    assert_int_equal(gw_plan_open_sealed(fd, &plan, &err), SL_INVALID);
    close(fd);
}

static void bytes_at_hand_are_shared_and_only_their_digest_is_taken_on_trust(void **state) {
    env_t *x = *state;
    int fd;
    gw_plan_t *plan;
    sl_err_t err;
    sl_buf_t image;
    sl_buf_init(&image, 1 << 20);
    assert_int_equal(sl_file_read(x->path, &image, &err), SL_OK);
    char *host = memmem(image.data, image.len, "up.test", 7);
    assert_non_null(host);
    *host = 'U'; /* no reference, but the digest differs */
    assert_int_equal(nd_image_seal_bytes(sl_buf_str(&image), &fd, &err), SL_OK);
    assert_int_equal(gw_plan_open_sealed(fd, &plan, &err), SL_INVALID);
    assert_int_equal(gw_plan_open_shared(fd, &plan, &err), SL_OK);
    assert_int_equal(gw_plan_generation(plan), 7);
    assert_true(ftruncate(fd, 0) < 0);
    gw_plan_close(plan);
    close(fd);
    assert_int_equal(nd_image_seal_bytes(sl_str(image.data, image.len - 64), &fd, &err), SL_OK);
    assert_int_equal(gw_plan_open_shared(fd, &plan, &err), SL_INVALID);
    close(fd);
    sl_buf_deinit(&image);
}

static void no_file_is_said_so(void **state) {
    env_t *x = *state;
    int fd;
    sl_err_t err;
    unlink(x->path);
    assert_int_equal(nd_image_seal(x->path, &fd, &err), SL_NOT_FOUND);
    assert_int_equal(nd_image_seal(x->dir, &fd, &err), SL_IO);
}

static void the_head_of_a_plan_tells_its_generation(void **state) {
    env_t *x = *state;
    assert_int_equal(gw_plan_peek_generation(x->path), 7);
    assert_int_equal(truncate(x->path, 20), 0);
    assert_int_equal(gw_plan_peek_generation(x->path), 0);
    unlink(x->path);
    assert_int_equal(gw_plan_peek_generation(x->path), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_happens_to_the_file_does_not_reach_a_sealed_plan, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_sealed_plan_cannot_be_changed_by_who_has_its_descriptor, set_up, tear_down),
        cmocka_unit_test_setup_teardown(memory_that_is_not_sealed_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_file_is_found_out_when_it_is_opened, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bytes_at_hand_are_shared_and_only_their_digest_is_taken_on_trust, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_file_is_said_so, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_head_of_a_plan_tells_its_generation, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
