/* Entities and transactions, on each kind of store. */
#include "store.h"

#include "cmocka_all.h"
#include "store_support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SERVICES SL_STR("services")
#define ROUTES SL_STR("routes")
#define CHAINS SL_STR("filter_chains")

static sl_status_t get(st_tx_t *tx, sl_str_t collection, unsigned n) {
    json_t *entity;
    sl_status_t rc = st_tx_get(tx, collection, sl_cstr(test_id(n)), &entity, NULL, &test_err);
    json_decref(entity);
    return rc;
}

static void a_new_store_is_empty_at_revision_zero(void **state) {
    (void)state;
    uint64_t revision = 7;
    st_store_t *store = test_open();
    MUST(st_store_revision(store, &revision, &test_err));
    assert_int_equal(revision, 0);
    char *all = dump_all(store);
    assert_string_equal(all, "{}");
    free(all);
    st_store_close(store);
}

static void an_entity_is_read_back_as_it_was_put(void **state) {
    (void)state;
    json_t *in = test_service(1, "a", 80), *out;
    uint64_t revision = 0;
    json_object_set_new(in, "text", json_stringn("nul \0 quote \" \xc3\xa9", 16));
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    MUST(st_tx_put(tx, SERVICES, in, &test_err));
    test_commit(tx);
    tx = test_begin(store, ST_READ);
    MUST(st_tx_get(tx, SERVICES, sl_cstr(test_id(1)), &out, &revision, &test_err));
    assert_true(json_equal(in, out));
    assert_int_equal(revision, 1);
    st_tx_rollback(tx);
    st_store_close(store);
    json_decref(in);
    json_decref(out);
}

static void a_transaction_sees_its_own_writes_and_the_revision_they_will_have(void **state) {
    (void)state;
    json_t *out;
    uint64_t revision = 0;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    MUST(put_new(tx, "services", test_service(1, "a", 80)));
    MUST(st_tx_get(tx, SERVICES, sl_cstr(test_id(1)), &out, &revision, &test_err));
    assert_int_equal(revision, 1);
    assert_int_equal(st_tx_revision(tx), 0);
    assert_int_equal(test_commit(tx), 1);
    json_decref(out);
    st_store_close(store);
}

static void ids_are_found_in_either_case(void **state) {
    (void)state;
    json_t *out;
    st_store_t *store = test_open();
    add_service(store, 0xabcdef, "a", 80);
    st_tx_t *tx = test_begin(store, ST_READ);
    MUST(st_tx_get(tx, SERVICES, SL_STR("00ABCDEF-0000-4000-8000-000000abcdef"), &out, NULL, &test_err));
    json_decref(out);
    st_tx_rollback(tx);
    st_store_close(store);
}

static void what_does_not_exist_is_not_found(void **state) {
    (void)state;
    json_t *out;
    st_store_t *store = test_open();
    add_service(store, 1, "a", 80);
    st_tx_t *tx = test_begin(store, ST_WRITE);
    assert_int_equal(get(tx, SERVICES, 2), SL_NOT_FOUND);
    assert_int_equal(get(tx, ROUTES, 1), SL_NOT_FOUND);
    assert_int_equal(get(tx, SL_STR("nothing"), 1), SL_NOT_FOUND);
    assert_int_equal(st_tx_get(tx, SERVICES, SL_STR("a"), &out, NULL, &test_err), SL_NOT_FOUND);
    assert_null(out);
    assert_int_equal(st_tx_find(tx, SERVICES, SL_STR("name"), SL_STR("b"), &out, NULL, &test_err), SL_NOT_FOUND);
    assert_int_equal(st_tx_find(tx, SERVICES, SL_STR("host"), SL_STR("upstream.test"), &out, NULL, &test_err), SL_NOT_FOUND);
    assert_int_equal(st_tx_delete(tx, SERVICES, sl_cstr(test_id(2)), &test_err), SL_NOT_FOUND);
    assert_int_equal(st_tx_delete(tx, SERVICES, SL_STR("a"), &test_err), SL_NOT_FOUND);
    assert_int_equal(test_commit(tx), 1);
    st_store_close(store);
}

static void an_entity_is_found_by_its_unique_fields(void **state) {
    (void)state;
    json_t *out;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    MUST(put_new(tx, "services", test_service(1, "a", 80)));
    MUST(put_new(tx, "filter_chains", test_chain(2, 1, -1)));
    MUST(st_tx_find(tx, SERVICES, SL_STR("name"), SL_STR("a"), &out, NULL, &test_err));
    assert_string_equal(json_string_value(json_object_get(out, "id")), test_id(1));
    json_decref(out);
    MUST(st_tx_find(tx, CHAINS, SL_STR("service"), sl_cstr(test_id(1)), &out, NULL, &test_err));
    assert_string_equal(json_string_value(json_object_get(out, "id")), test_id(2));
    json_decref(out);
    test_commit(tx);
    st_store_close(store);
}

static void a_put_replaces_and_keeps_the_place(void **state) {
    (void)state;
    st_store_t *store = test_open();
    add_service(store, 3, "c", 1);
    add_service(store, 1, "a", 2);
    add_service(store, 3, "d", 3);
    assert_int_equal(port_of(store, 3), 3);
    char *all = dump_all(store);
    assert_non_null(strstr(all, test_id(3)));
    assert_true(strstr(all, test_id(3)) < strstr(all, test_id(1)));
    assert_null(strstr(all, "\"c\""));
    free(all);
    st_store_close(store);
}

static void all_entities_are_loaded_in_the_order_of_creation(void **state) {
    (void)state;
    json_t *all, *expected;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    MUST(put_new(tx, "services", test_service(9, "z", 80)));
    MUST(put_new(tx, "routes", test_route(5, NULL, 9)));
    MUST(put_new(tx, "services", test_service(2, "b", 81)));
    test_commit(tx);
    tx = test_begin(store, ST_READ);
    MUST(st_tx_load(tx, &all, &test_err));
    st_tx_rollback(tx);
    expected = json_pack("{s:{s:o, s:o}, s:{s:o}}", "services", test_id(9), test_service(9, "z", 80), test_id(2), test_service(2, "b", 81),
                         "routes", test_id(5), test_route(5, NULL, 9));
    char *is = json_dumps(all, 0), *should = json_dumps(expected, 0); /* with the order of members */
    assert_string_equal(is, should);
    free(is);
    free(should);
    json_decref(all);
    json_decref(expected);
    st_store_close(store);
}

/* ---- transactions --------------------------------------------------------------------------------------------------------- */

static void each_transaction_that_changes_something_makes_one_revision(void **state) {
    (void)state;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    MUST(put_new(tx, "services", test_service(1, "a", 80)));
    MUST(put_new(tx, "services", test_service(2, "b", 80)));
    assert_int_equal(test_commit(tx), 1);
    tx = test_begin(store, ST_WRITE);
    assert_int_equal(test_commit(tx), 1);
    tx = test_begin(store, ST_WRITE);
    MUST(st_tx_delete(tx, SERVICES, sl_cstr(test_id(1)), &test_err));
    assert_int_equal(test_commit(tx), 2);
    uint64_t revision;
    MUST(st_store_revision(store, &revision, &test_err));
    assert_int_equal(revision, 2);
    st_store_close(store);
}

static void a_rollback_leaves_nothing(void **state) {
    (void)state;
    st_store_t *store = test_open();
    add_service(store, 1, "a", 80);
    st_tx_t *tx = test_begin(store, ST_WRITE);
    MUST(put_new(tx, "services", test_service(1, "a", 81)));
    MUST(put_new(tx, "services", test_service(2, "b", 82)));
    st_tx_rollback(tx);
    assert_int_equal(port_of(store, 1), 80);
    assert_int_equal(port_of(store, 2), -1);
    uint64_t revision;
    MUST(st_store_revision(store, &revision, &test_err));
    assert_int_equal(revision, 1);
    st_tx_rollback(NULL);
    st_store_close(store);
}

static void closing_rolls_an_open_transaction_back(void **state) {
    (void)state;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    MUST(put_new(tx, "services", test_service(1, "a", 80)));
    st_store_close(store);
    store = test_open();
    assert_int_equal(port_of(store, 1), -1);
    st_store_close(store);
    st_store_close(NULL);
}

static void a_transaction_begins_only_at_the_expected_revision(void **state) {
    (void)state;
    st_tx_t *tx;
    st_store_t *store = test_open();
    add_service(store, 1, "a", 80);
    MUST(st_tx_begin(store, ST_WRITE, 1, &tx, &test_err));
    st_tx_rollback(tx);
    assert_int_equal(st_tx_begin(store, ST_WRITE, 0, &tx, &test_err), SL_CONFLICT);
    assert_null(tx);
    assert_int_equal(st_store_fault(store)->kind, ST_FAULT_STALE);
    assert_non_null(strstr(test_err.text, "revision 0"));
    MUST(st_tx_begin(store, ST_WRITE, 1, &tx, &test_err));
    assert_int_equal(st_store_fault(store)->kind, ST_FAULT_NONE);
    st_tx_rollback(tx);
    st_store_close(store);
}

static void a_handle_has_one_transaction_at_a_time(void **state) {
    (void)state;
    st_tx_t *second;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_READ);
    assert_int_equal(st_tx_begin(store, ST_READ, ST_ANY_REVISION, &second, &test_err), SL_FAILED);
    st_tx_rollback(tx);
    st_store_close(store);
}

static void a_read_transaction_writes_nothing(void **state) {
    (void)state;
    st_module_t module = {.name = SL_STR("add")};
    uint32_t version;
    st_store_t *store = test_open();
    add_service(store, 1, "a", 80);
    st_tx_t *tx = test_begin(store, ST_READ);
    assert_int_equal(put_new(tx, "services", test_service(2, "b", 80)), SL_INVALID);
    assert_int_equal(st_tx_delete(tx, SERVICES, sl_cstr(test_id(1)), &test_err), SL_INVALID);
    assert_int_equal(st_tx_clear(tx, &test_err), SL_INVALID);
    assert_int_equal(st_module_put(tx, &module, SL_STR("x"), &version, &test_err), SL_INVALID);
    assert_int_equal(st_module_activate(tx, SL_STR("add"), 1, &test_err), SL_INVALID);
    assert_int_equal(st_module_delete(tx, SL_STR("add"), 1, &test_err), SL_INVALID);
    assert_int_equal(test_commit(tx), 1);
    assert_int_equal(port_of(store, 1), 80);
    st_store_close(store);
}

static void clearing_deletes_all_entities(void **state) {
    (void)state;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    MUST(put_new(tx, "services", test_service(1, "a", 80)));
    MUST(put_new(tx, "routes", test_route(2, "r", 1)));
    MUST(put_new(tx, "filter_chains", test_chain(3, -1, 2)));
    test_commit(tx);
    tx = test_begin(store, ST_WRITE);
    MUST(st_tx_clear(tx, &test_err));
    MUST(put_new(tx, "services", test_service(4, "a", 81)));
    test_commit(tx);
    assert_int_equal(port_of(store, 1), -1);
    assert_int_equal(port_of(store, 4), 81);
    st_store_close(store);
}

static void what_is_no_entity_is_refused(void **state) {
    (void)state;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    assert_int_equal(put_new(tx, "nothing", test_service(1, "a", 80)), SL_INVALID);
    assert_int_equal(put_new(tx, "services", json_pack("{s:s}", "name", "a")), SL_INVALID);
    assert_int_equal(put_new(tx, "services", json_pack("{s:s}", "id", "a")), SL_INVALID);
    assert_int_equal(put_new(tx, "services", json_pack("{s:s}", "id", "ABCDEF00-0000-4000-8000-000000000000")), SL_INVALID);
    assert_int_equal(put_new(tx, "services", json_pack("{s:s, s:i}", "id", test_id(1), "name", 5)), SL_INVALID);
    assert_int_equal(put_new(tx, "services", json_pack("[s]", "id")), SL_INVALID);
    assert_int_equal(put_new(tx, "routes", json_pack("{s:s, s:{s:s}}", "id", test_id(1), "service", "name", "a")), SL_INVALID);
    assert_int_equal(put_new(tx, "routes", json_pack("{s:s, s:{s:s}}", "id", test_id(1), "service", "id", "a")), SL_INVALID);
    MUST(put_new(tx, "services", test_service(1, "a", 80)));
    assert_int_equal(test_commit(tx), 1);
    st_store_close(store);
}

/* ---- uniqueness ----------------------------------------------------------------------------------------------------------- */

static void a_unique_value_has_one_owner(void **state) {
    (void)state;
    st_store_t *store = test_open();
    add_service(store, 1, "a", 80);
    st_tx_t *tx = test_begin(store, ST_WRITE);
    assert_int_equal(put_new(tx, "services", test_service(2, "a", 80)), SL_CONFLICT);
    const st_fault_t *fault = st_store_fault(store);
    assert_int_equal(fault->kind, ST_FAULT_DUPLICATE);
    assert_string_equal(fault->collection, "services");
    assert_string_equal(fault->id, test_id(2));
    assert_string_equal(fault->field, "name");
    assert_string_equal(fault->other_id, test_id(1));
    MUST(put_new(tx, "services", test_service(3, "b", 83))); /* the transaction goes on */
    test_commit(tx);
    assert_int_equal(port_of(store, 2), -1);
    assert_int_equal(port_of(store, 3), 83);
    st_store_close(store);
}

static void a_replacement_keeps_or_frees_its_own_values(void **state) {
    (void)state;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    MUST(put_new(tx, "services", test_service(1, "a", 80)));
    MUST(put_new(tx, "services", test_service(1, "a", 81)));
    MUST(put_new(tx, "services", test_service(1, "b", 82)));
    MUST(put_new(tx, "services", test_service(2, "a", 83)));
    MUST(st_tx_delete(tx, SERVICES, sl_cstr(test_id(1)), &test_err));
    MUST(put_new(tx, "services", test_service(3, "b", 84)));
    test_commit(tx);
    st_store_close(store);
}

static void unset_values_are_not_unique_and_collections_do_not_share_them(void **state) {
    (void)state;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    MUST(put_new(tx, "services", test_service(1, NULL, 80)));
    MUST(put_new(tx, "services", test_service(2, NULL, 80)));
    MUST(put_new(tx, "services", test_service(3, "a", 80)));
    MUST(put_new(tx, "routes", test_route(4, "a", 1)));
    MUST(put_new(tx, "routes", test_route(3, NULL, 1))); /* an id of another collection */
    test_commit(tx);
    st_store_close(store);
}

static void a_cache_key_is_unique_as_a_whole(void **state) {
    (void)state;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    MUST(put_new(tx, "upstreams", json_pack("{s:s, s:s}", "id", test_id(1), "name", "u")));
    MUST(put_new(tx, "upstreams", json_pack("{s:s, s:s}", "id", test_id(2), "name", "v")));
    MUST(put_new(tx, "targets", json_pack("{s:s, s:s, s:{s:s}}", "id", test_id(3), "target", "t:1", "upstream", "id", test_id(1))));
    MUST(put_new(tx, "targets", json_pack("{s:s, s:s, s:{s:s}}", "id", test_id(4), "target", "t:1", "upstream", "id", test_id(2))));
    MUST(put_new(tx, "targets", json_pack("{s:s, s:s, s:{s:s}}", "id", test_id(5), "target", "t:2", "upstream", "id", test_id(1))));
    assert_int_equal(
        put_new(tx, "targets", json_pack("{s:s, s:s, s:{s:s}}", "id", test_id(6), "target", "t:2", "upstream", "id", test_id(1))),
        SL_CONFLICT);
    assert_string_equal(st_store_fault(store)->field, "upstream,target");
    assert_string_equal(st_store_fault(store)->other_id, test_id(5));
    test_commit(tx);
    st_store_close(store);
}

static void a_service_has_one_chain(void **state) {
    (void)state;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    MUST(put_new(tx, "services", test_service(1, "a", 80)));
    MUST(put_new(tx, "filter_chains", test_chain(2, 1, -1)));
    assert_int_equal(put_new(tx, "filter_chains", test_chain(3, 1, -1)), SL_CONFLICT);
    assert_string_equal(st_store_fault(store)->field, "service");
    test_commit(tx);
    st_store_close(store);
}

/* ---- references ----------------------------------------------------------------------------------------------------------- */

static void a_reference_to_nothing_is_refused_at_commit(void **state) {
    (void)state;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    MUST(put_new(tx, "services", test_service(5, "a", 80)));
    MUST(put_new(tx, "routes", test_route(2, "r", 1)));
    assert_int_equal(st_tx_commit(tx, NULL, &test_err), SL_INVALID);
    const st_fault_t *fault = st_store_fault(store);
    assert_int_equal(fault->kind, ST_FAULT_NO_PARENT);
    assert_string_equal(fault->collection, "routes");
    assert_string_equal(fault->id, test_id(2));
    assert_string_equal(fault->field, "service");
    assert_string_equal(fault->other_collection, "services");
    assert_string_equal(fault->other_id, test_id(1));
    assert_int_equal(port_of(store, 5), -1); /* all or nothing */
    add_service(store, 6, "b", 80);          /* and the handle goes on */
    st_store_close(store);
}

static void children_may_come_before_their_parents(void **state) {
    (void)state;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    MUST(put_new(tx, "filter_chains", test_chain(3, -1, 2)));
    MUST(put_new(tx, "routes", test_route(2, "r", 1)));
    MUST(put_new(tx, "services", test_service(1, "a", 80)));
    assert_int_equal(test_commit(tx), 1);
    st_store_close(store);
}

static void a_parent_that_is_used_is_not_deleted(void **state) {
    (void)state;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    MUST(put_new(tx, "services", test_service(1, "a", 80)));
    MUST(put_new(tx, "routes", test_route(2, "r", 1)));
    MUST(put_new(tx, "filter_chains", test_chain(3, 1, -1)));
    assert_int_equal(st_tx_delete(tx, SERVICES, sl_cstr(test_id(1)), &test_err), SL_CONFLICT);
    const st_fault_t *fault = st_store_fault(store);
    assert_int_equal(fault->kind, ST_FAULT_REFERENCED);
    assert_string_equal(fault->collection, "services");
    assert_string_equal(fault->id, test_id(1));
    assert_string_equal(fault->field, "service");
    assert_string_equal(fault->other_collection, "routes");
    assert_string_equal(fault->other_id, test_id(2));
    MUST(get(tx, CHAINS, 3)); /* nothing of it cascaded */
    MUST(st_tx_delete(tx, ROUTES, sl_cstr(test_id(2)), &test_err));
    MUST(st_tx_delete(tx, SERVICES, sl_cstr(test_id(1)), &test_err));
    assert_int_equal(get(tx, CHAINS, 3), SL_NOT_FOUND);
    test_commit(tx);
    st_store_close(store);
}

static void a_deletion_takes_what_cascades_with_it(void **state) {
    (void)state;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    MUST(put_new(tx, "services", test_service(1, "a", 80)));
    MUST(put_new(tx, "routes", test_route(2, "r", 1)));
    MUST(put_new(tx, "routes", test_route(3, "s", 1)));
    MUST(put_new(tx, "filter_chains", test_chain(4, -1, 2)));
    MUST(put_new(tx, "filter_chains", test_chain(5, -1, 3)));
    test_commit(tx);
    tx = test_begin(store, ST_WRITE);
    MUST(st_tx_delete(tx, ROUTES, sl_cstr(test_id(2)), &test_err));
    assert_int_equal(get(tx, CHAINS, 4), SL_NOT_FOUND);
    MUST(get(tx, CHAINS, 5));
    MUST(get(tx, SERVICES, 1));
    MUST(put_new(tx, "routes", test_route(2, "r", 1)));
    MUST(put_new(tx, "filter_chains", test_chain(6, -1, 2))); /* its unique value is free again */
    test_commit(tx);
    st_store_close(store);
}

static void a_changed_reference_no_longer_holds_the_old_parent(void **state) {
    (void)state;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    MUST(put_new(tx, "services", test_service(1, "a", 80)));
    MUST(put_new(tx, "services", test_service(2, "b", 80)));
    MUST(put_new(tx, "routes", test_route(3, "r", 1)));
    MUST(put_new(tx, "routes", test_route(3, "r", 2)));
    MUST(st_tx_delete(tx, SERVICES, sl_cstr(test_id(1)), &test_err));
    assert_int_equal(st_tx_delete(tx, SERVICES, sl_cstr(test_id(2)), &test_err), SL_CONFLICT);
    MUST(put_new(tx, "routes", test_route(3, "r", -1)));
    MUST(st_tx_delete(tx, SERVICES, sl_cstr(test_id(2)), &test_err));
    test_commit(tx);
    st_store_close(store);
}

/* ---- pages ---------------------------------------------------------------------------------------------------------------- */

static size_t list_page(st_tx_t *tx, sl_str_t collection, const st_page_t *page, char ids[][SL_UUID_TEXT_SIZE + 1], bool *more) {
    json_t *list;
    MUST(st_tx_list(tx, collection, page, &list, more, &test_err));
    size_t n = json_array_size(list);
    for (size_t i = 0; i < n; i++) {
        snprintf(ids[i], SL_UUID_TEXT_SIZE + 1, "%s", json_string_value(json_object_get(json_array_get(list, i), "id")));
    }
    json_decref(list);
    return n;
}

static void pages_go_by_id_and_know_whether_more_follows(void **state) {
    (void)state;
    char ids[4][SL_UUID_TEXT_SIZE + 1];
    bool more;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    for (unsigned n = 5; n > 0; n--) {
        MUST(put_new(tx, "services", test_service(n, NULL, 80)));
    }
    st_page_t page = {.limit = 2};
    assert_int_equal(list_page(tx, SERVICES, &page, ids, &more), 2);
    assert_true(more);
    assert_string_equal(ids[0], test_id(1));
    assert_string_equal(ids[1], test_id(2));
    page.after = sl_cstr(ids[1]);
    page.limit = 3;
    assert_int_equal(list_page(tx, SERVICES, &page, ids, &more), 3);
    assert_false(more);
    assert_string_equal(ids[0], test_id(3));
    assert_string_equal(ids[2], test_id(5));
    page.after = sl_cstr(ids[2]);
    assert_int_equal(list_page(tx, SERVICES, &page, ids, &more), 0);
    assert_int_equal(list_page(tx, ROUTES, &(st_page_t){.limit = 3}, ids, &more), 0);
    test_commit(tx);
    st_store_close(store);
}

static void pages_can_be_of_the_children_of_one_parent(void **state) {
    (void)state;
    char ids[4][SL_UUID_TEXT_SIZE + 1];
    bool more;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    MUST(put_new(tx, "services", test_service(1, "a", 80)));
    MUST(put_new(tx, "services", test_service(2, "b", 80)));
    for (int n = 3; n < 9; n++) {
        MUST(put_new(tx, "routes", test_route((unsigned)n, NULL, 1 + n % 2)));
    }
    st_page_t page = {.limit = 2, .parent_field = SL_STR("service"), .parent_id = sl_cstr(test_id(1))};
    assert_int_equal(list_page(tx, ROUTES, &page, ids, &more), 2);
    assert_true(more);
    assert_string_equal(ids[0], test_id(4));
    assert_string_equal(ids[1], test_id(6));
    page.after = sl_cstr(ids[1]);
    assert_int_equal(list_page(tx, ROUTES, &page, ids, &more), 1);
    assert_false(more);
    assert_string_equal(ids[0], test_id(8));
    test_commit(tx);
    st_store_close(store);
}

static json_t *tagged_service(unsigned n, const char *name, const char *tag) {
    json_t *service = test_service(n, name, 80);
    json_object_set_new(service, "tags", json_pack("[s,s]", tag, "all"));
    return service;
}

static void pages_can_be_of_those_with_a_tag(void **state) {
    (void)state;
    char ids[4][SL_UUID_TEXT_SIZE + 1];
    bool more = true;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    for (unsigned n = 1; n <= 5; n++) {
        char name[8];
        snprintf(name, sizeof(name), "s%u", n);
        MUST(put_new(tx, "services", tagged_service(n, name, n % 2 ? "odd" : "even")));
    }
    MUST(put_new(tx, "services", tagged_service(2, "s2", "odd")));
    MUST(st_tx_delete(tx, SERVICES, sl_cstr(test_id(3)), &test_err));
    test_commit(tx);
    tx = test_begin(store, ST_READ);
    st_page_t page = {.limit = 2, .tag = SL_STR("odd")};
    assert_int_equal(list_page(tx, SERVICES, &page, ids, &more), 2);
    assert_true(more);
    assert_string_equal(ids[0], test_id(1));
    assert_string_equal(ids[1], test_id(2));
    page.after = sl_cstr(ids[1]);
    assert_int_equal(list_page(tx, SERVICES, &page, ids, &more), 1);
    assert_false(more);
    assert_string_equal(ids[0], test_id(5));
    assert_int_equal(list_page(tx, ROUTES, &(st_page_t){.limit = 2, .tag = SL_STR("odd")}, ids, &more), 0);
    st_tx_rollback(tx);
    st_store_close(store);
}

static void what_has_changed_since_a_revision_is_told(void **state) {
    (void)state;
    json_t *changed, *gone;
    st_store_t *store = test_open();
    add_service(store, 1, "a", 80);
    add_service(store, 2, "b", 80);
    add_service(store, 3, "c", 80);
    add_service(store, 2, "b", 81);
    st_tx_t *tx = test_begin(store, ST_WRITE);
    MUST(st_tx_delete(tx, SERVICES, sl_cstr(test_id(1)), &test_err));
    test_commit(tx);
    tx = test_begin(store, ST_READ);
    MUST(st_tx_changes(tx, 3, &changed, &gone, &test_err));
    json_t *services = json_object_get(changed, "services");
    assert_int_equal(json_object_size(services), 1);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(services, test_id(2)), "port")), 81);
    assert_int_equal(json_array_size(json_object_get(gone, "services")), 1);
    assert_string_equal(json_string_value(json_array_get(json_object_get(gone, "services"), 0)), test_id(1));
    json_decref(changed);
    json_decref(gone);
    MUST(st_tx_changes(tx, 5, &changed, &gone, &test_err));
    assert_int_equal(json_object_size(changed) + json_object_size(gone), 0);
    json_decref(changed);
    json_decref(gone);
    assert_int_equal(st_tx_changes(tx, 6, &changed, &gone, &test_err), SL_CONFLICT);
    assert_null(changed);
    st_tx_rollback(tx);
    st_store_close(store);
}

static void a_deletion_that_cascades_is_told_whole(void **state) {
    (void)state;
    json_t *changed, *gone;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    MUST(put_new(tx, "services", test_service(1, "a", 80)));
    MUST(put_new(tx, "filter_chains", test_chain(2, 1, -1)));
    test_commit(tx);
    tx = test_begin(store, ST_WRITE);
    MUST(st_tx_delete(tx, SERVICES, sl_cstr(test_id(1)), &test_err));
    test_commit(tx);
    tx = test_begin(store, ST_READ);
    MUST(st_tx_changes(tx, 1, &changed, &gone, &test_err));
    assert_int_equal(json_array_size(json_object_get(gone, "services")), 1);
    assert_int_equal(json_array_size(json_object_get(gone, "filter_chains")), 1);
    json_decref(changed);
    json_decref(gone);
    st_tx_rollback(tx);
    st_store_close(store);
}

static void deletions_of_long_ago_are_not_known_any_more(void **state) {
    (void)state;
    json_t *changed, *gone;
    st_store_t *store = test_open();
    for (unsigned i = 0; i < 1010; i++) {
        add_service(store, 1, "a", (int)i);
    }
    st_tx_t *tx = test_begin(store, ST_READ);
    assert_int_equal(st_tx_changes(tx, 5, &changed, &gone, &test_err), SL_CONFLICT);
    MUST(st_tx_changes(tx, 1000, &changed, &gone, &test_err));
    json_decref(changed);
    json_decref(gone);
    st_tx_rollback(tx);
    st_store_close(store);
}

static void a_page_of_nonsense_is_refused(void **state) {
    (void)state;
    json_t *list;
    bool more;
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_READ);
    const st_page_t pages[] = {
        {.limit = 0},
        {.limit = SIZE_MAX},
        {.limit = 1, .after = SL_STR("x")},
        {.limit = 1, .parent_field = SL_STR("service"), .parent_id = SL_STR("x")},
        {.limit = 1, .parent_field = SL_STR("host"), .parent_id = sl_cstr(test_id(1))},
    };
    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
        assert_int_equal(st_tx_list(tx, ROUTES, &pages[i], &list, &more, &test_err), SL_INVALID);
        assert_null(list);
    }
    assert_int_equal(st_tx_list(tx, SL_STR("nothing"), &(st_page_t){.limit = 1}, &list, &more, &test_err), SL_INVALID);
    st_tx_rollback(tx);
    st_store_close(store);
}

/* ---- opening -------------------------------------------------------------------------------------------------------------- */

static void an_unknown_kind_is_answered_with_those_there_are(void **state) {
    (void)state;
    st_store_t *store;
    st_conf_t conf = {.kind = "postgres", .path = "x"};
    assert_int_equal(st_store_open(&conf, &store, &test_err), SL_NOT_FOUND);
    assert_null(store);
    assert_non_null(strstr(test_err.text, "sqlite"));
}

static void every_table_of_entities_has_room_in_a_row(void **state) {
    (void)state;
    static const char *const collections[] = {"services",  "routes",  "certificates", "ca_certificates", "snis",
                                              "upstreams", "targets", "consumers",    "plugins",         "filter_chains"};
    st_store_t *store = test_open();
    st_tx_t *tx = test_begin(store, ST_WRITE);
    for (unsigned i = 0; i < sizeof(collections) / sizeof(collections[0]); i++) {
        json_t *entity = json_pack("{s:s, s:s}", "id", test_id(i + 1), "name", collections[i]);
        const char *const parents[][2] = {{"service", "services"}, {"route", "routes"}, {"upstream", "upstreams"}};
        for (size_t p = 0; i > 0 && p < 3; p++) {
            json_object_set_new(entity, parents[p][0], json_pack("{s:s}", "id", test_id(p == 0 ? 1 : p == 1 ? 2 : 6)));
        }
        MUST(put_new(tx, collections[i], entity));
    }
    test_commit(tx);
    st_store_close(store);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(a_new_store_is_empty_at_revision_zero),
        IN_FOLDER(an_entity_is_read_back_as_it_was_put),
        IN_FOLDER(a_transaction_sees_its_own_writes_and_the_revision_they_will_have),
        IN_FOLDER(ids_are_found_in_either_case),
        IN_FOLDER(what_does_not_exist_is_not_found),
        IN_FOLDER(an_entity_is_found_by_its_unique_fields),
        IN_FOLDER(a_put_replaces_and_keeps_the_place),
        IN_FOLDER(all_entities_are_loaded_in_the_order_of_creation),
        IN_FOLDER(each_transaction_that_changes_something_makes_one_revision),
        IN_FOLDER(a_rollback_leaves_nothing),
        IN_FOLDER(closing_rolls_an_open_transaction_back),
        IN_FOLDER(a_transaction_begins_only_at_the_expected_revision),
        IN_FOLDER(a_handle_has_one_transaction_at_a_time),
        IN_FOLDER(a_read_transaction_writes_nothing),
        IN_FOLDER(clearing_deletes_all_entities),
        IN_FOLDER(what_is_no_entity_is_refused),
        IN_FOLDER(a_unique_value_has_one_owner),
        IN_FOLDER(a_replacement_keeps_or_frees_its_own_values),
        IN_FOLDER(unset_values_are_not_unique_and_collections_do_not_share_them),
        IN_FOLDER(a_cache_key_is_unique_as_a_whole),
        IN_FOLDER(a_service_has_one_chain),
        IN_FOLDER(a_reference_to_nothing_is_refused_at_commit),
        IN_FOLDER(children_may_come_before_their_parents),
        IN_FOLDER(a_parent_that_is_used_is_not_deleted),
        IN_FOLDER(a_deletion_takes_what_cascades_with_it),
        IN_FOLDER(a_changed_reference_no_longer_holds_the_old_parent),
        IN_FOLDER(pages_go_by_id_and_know_whether_more_follows),
        IN_FOLDER(pages_can_be_of_the_children_of_one_parent),
        IN_FOLDER(pages_can_be_of_those_with_a_tag),
        IN_FOLDER(what_has_changed_since_a_revision_is_told),
        IN_FOLDER(a_deletion_that_cascades_is_told_whole),
        IN_FOLDER(deletions_of_long_ago_are_not_known_any_more),
        IN_FOLDER(a_page_of_nonsense_is_refused),
        IN_FOLDER(an_unknown_kind_is_answered_with_those_there_are),
        IN_FOLDER(every_table_of_entities_has_room_in_a_row),
    };
    int failed = cmocka_run_group_tests_name("sqlite", tests, NULL, NULL);
    store_kind = "memory";
    return failed + cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
