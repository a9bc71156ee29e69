/*
 * Regular expressions (PCRE2, compiled to machine code where the platform can). Those of routes are about bytes, not characters; '.'
 * matches a newline too. A compiled regex belongs to one thread at a time.
 */
#ifndef SL_REGEX_H
#define SL_REGEX_H

#include "sl_types.h"

typedef struct sl_regex_s sl_regex_t;

/* Compiles only, to check. SL_INVALID: err is PCRE2's own sentence with the offset ("missing closing parenthesis at offset 3"). */
sl_status_t sl_regex_check(sl_str_t pattern, sl_err_t *err);

/* @param anchored  a match must begin at the first byte (paths); it never has to end at the last one */
sl_status_t sl_regex_new(sl_str_t pattern, bool anchored, sl_regex_t **out, sl_err_t *err);
/*
 * One for text, as those of CEL: characters of UTF-8 (where the subject is none, nothing matches), '.' is no newline, a match is searched
 * for. At most 4 KiB.
 */
sl_status_t sl_regex_new_text(sl_str_t pattern, sl_regex_t **out, sl_err_t *err);
void sl_regex_limit(sl_regex_t *re, uint32_t steps); /* for each place where a match may begin; see SL_FAILED below */
size_t sl_regex_bytes(const sl_regex_t *re);         /* memory that it takes */
void sl_regex_free(sl_regex_t *re);                  /* NULL is fine */

/* SL_OK: *end is where the match ends. SL_NOT_FOUND: no match. SL_FAILED: the limit of work was reached. SL_NO_MEMORY. */
sl_status_t sl_regex_match(sl_regex_t *re, sl_str_t subject, size_t *end);

/* The same, with where the groups matched: groups[0] is the whole, the next ones the pattern's; {NULL,0}: took no part. Borrowed. */
sl_status_t sl_regex_groups(sl_regex_t *re, sl_str_t subject, sl_str_t *groups, size_t n);
size_t sl_regex_n_groups(const sl_regex_t *re); /* without the whole */

/*
 * The literal bytes with which every match of an anchored pattern begins, appended to nothing: written to `out` (room for
 * pattern.len bytes). Answers their number; 0 when there are none or the pattern is too clever to tell.
 */
size_t sl_regex_literal_prefix(sl_str_t pattern, char *out);

#endif
