/* What may stand in names and values of headers. */
#include "pt.h"
#include "pw_headers.h"

#include <stdlib.h>

enum { LEN_MAX = 40 };

static bool is_token(unsigned char c) {
    return c != 0 && (strchr("!#$%&'*+-.^_`|~", c) != NULL || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'));
}

static bool is_text(unsigned char c) {
    return (c >= 0x20 && c != 0x7f) || c == '\t';
}

/* Each length, each place, each byte there; in a block of just that size, so that the sanitizer sees what is read beside it. */
static void compare(bool (*fits)(sl_str_t text), bool (*fine)(unsigned char c), bool pseudo) {
    for (size_t len = 1; len <= LEN_MAX; len++) {
        char *text = malloc(len);
        assert_non_null(text);
        memset(text, 'a', len);
        for (size_t at = 0; at < len; at++) {
            for (unsigned c = 0; c < 256; c++) {
                text[at] = (char)c;
                bool wanted = fine((unsigned char)c) || (pseudo && c == ':' && at == 0 && len > 1);
                if (fits(sl_str(text, len)) != wanted) {
                    fail_msg("byte %02x at %zu of %zu: %s", c, at, len, wanted ? "refused" : "taken");
                }
            }
            text[at] = 'a';
        }
        free(text);
    }
}

static void names_are_tokens_with_one_colon_in_front_perhaps(void **state) {
    (void)state;
    compare(pw_header_name_fits, is_token, true);
    assert_false(pw_header_name_fits(SL_STR("")));
    assert_false(pw_header_name_fits(SL_STR(":")));
    assert_false(pw_header_name_fits(SL_STR("::status")));
}

static void values_hold_no_control_character_but_tab(void **state) {
    (void)state;
    compare(pw_header_value_fits, is_text, false);
    assert_true(pw_header_value_fits(SL_STR("")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_tokens_with_one_colon_in_front_perhaps),
        cmocka_unit_test(values_hold_no_control_character_but_tab),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
