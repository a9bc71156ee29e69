/* Short ways from a text to what the tests of documents, validation and the Admin API look at. */
#ifndef GW_CONFIG_SUPPORT_H
#define GW_CONFIG_SUPPORT_H

#include "gw_config.h"

#define TEST_NOW 1700000000

/* Filters "add" and "set" are installed; "typed" too, with a schema that needs {"n": integer}. */
gw_validate_env_t test_env(void);

/* The document of a text in YAML or JSON; the test fails when there is none. */
json_t *test_parse(const char *text);
/* Canonical entities of a valid document; the test fails with the errors otherwise. */
json_t *test_entities(const char *text);
/* The error tree of an invalid document; the test fails when it is valid. */
json_t *test_errors(const char *text);

/* Compares as JSON, order of members aside, and prints both when they differ. `value` may be NULL. */
void test_json_equal(const json_t *value, const char *expected);
/* The only entity of a collection. */
const json_t *test_only(const json_t *entities, const char *collection);

#endif
