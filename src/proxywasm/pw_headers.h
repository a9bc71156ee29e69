/* Small rules about header names and values, used wherever a guest writes some. */
#ifndef PW_HEADERS_H
#define PW_HEADERS_H

#include "pw_internal.h"

void pw_lower(char *s, size_t len);        /* ASCII, in place */
bool pw_header_name_fits(sl_str_t name);   /* a token, with one colon in front for pseudo headers */
bool pw_header_value_fits(sl_str_t value); /* no control character but tab */
bool pw_status_fits(uint32_t status);      /* of a local reply: final, three digits */
static inline bool pw_header_fits(sl_str_t name, sl_str_t value) {
    return pw_header_name_fits(name) && pw_header_value_fits(value);
}

#endif
