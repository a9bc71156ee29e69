/* Foreign functions: signatures. */
#include "pw_foreign.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "pw_proto.h"

#define KEY_BYTES_MAX (16 * 1024)
/* Larger ones take the event loop too long: a signature cannot be stopped in the middle. */
#define PRIVATE_KEY_BITS_MAX 4096
#define PUBLIC_KEY_BITS_MAX 8192
#define SIGNATURE_BYTES_MAX 1024 /* of such keys */
/* What takes more than a millisecond or two: keys of more bits, texts for keys with a digest of their own. */
#define ASIDE_BITS 2048
#define ASIDE_TEXT ((size_t)64 << 10)
#define OWN_TEXT_MAX ((size_t)1 << 20)

/* ---- keys ---- */

/* Nobody is there to type a pass phrase. */
static int no_passphrase(char *to, int size, int writing, void *ud) {
    (void)to;
    (void)size;
    (void)writing;
    (void)ud;
    return -1;
}

/* Absent is fine. */
static bool number_fits(const EVP_PKEY *key, const char *name, int bits_max) {
    BIGNUM *n = NULL;
    bool fits = EVP_PKEY_get_bn_param(key, name, &n) != 1 || BN_num_bits(n) <= bits_max;
    BN_clear_free(n);
    return fits;
}

/* The exponents of a key that was made to be slow may be many times as long as its modulus. */
static bool rsa_is_sound(const EVP_PKEY *key) {
    static const char *const exponents[] = {OSSL_PKEY_PARAM_RSA_E, OSSL_PKEY_PARAM_RSA_D, OSSL_PKEY_PARAM_RSA_EXPONENT1,
                                            OSSL_PKEY_PARAM_RSA_EXPONENT2, OSSL_PKEY_PARAM_RSA_EXPONENT3};
    for (size_t i = 0; i < sizeof(exponents) / sizeof(exponents[0]); i++) {
        if (!number_fits(key, exponents[i], EVP_PKEY_bits(key))) {
            return false;
        }
    }
    return true;
}

/* Curves of somebody's own making are as slow as he likes. */
static bool curve_is_named(const EVP_PKEY *key) {
    char name[80];
    size_t len;
    return EVP_PKEY_get_group_name(key, name, sizeof(name), &len) == 1;
}

static bool is_usable(const EVP_PKEY *key, int bits_max) {
    if (EVP_PKEY_bits(key) > bits_max) {
        return false;
    }
    switch (EVP_PKEY_base_id(key)) {
    case EVP_PKEY_RSA:
    case EVP_PKEY_RSA_PSS:
        return rsa_is_sound(key);
    case EVP_PKEY_EC:
        return curve_is_named(key);
    case EVP_PKEY_ED25519:
    case EVP_PKEY_ED448:
        return true;
    default:
        return false;
    }
}

static EVP_PKEY *checked(EVP_PKEY *key, bool is_private) {
    if (key != NULL && !is_usable(key, is_private ? PRIVATE_KEY_BITS_MAX : PUBLIC_KEY_BITS_MAX)) {
        EVP_PKEY_free(key);
        return NULL;
    }
    return key;
}

static EVP_PKEY *read_pem(sl_str_t pem, bool is_private) {
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    EVP_PKEY *key = NULL;
    if (bio != NULL) {
        key = is_private ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : PEM_read_bio_PUBKEY(bio, NULL, no_passphrase, NULL);
    }
    BIO_free(bio);
    return checked(key, is_private);
}

static EVP_PKEY *read_der(sl_str_t der, bool is_private) {
    const unsigned char *at = (const unsigned char *)der.data;
    return checked(is_private ? d2i_AutoPrivateKey(NULL, &at, (long)der.len) : d2i_PUBKEY(NULL, &at, (long)der.len), is_private);
}

/* Text wins where both are given. */
static EVP_PKEY *read_key(sl_str_t der, sl_str_t pem, bool is_private) {
    if (der.len > KEY_BYTES_MAX || pem.len > KEY_BYTES_MAX) {
        return NULL;
    }
    return pem.len != 0 ? read_pem(pem, is_private) : der.len != 0 ? read_der(der, is_private) : NULL;
}

/* ---- digests ---- */

/* Keys of the Edwards curves have theirs built in. */
static bool has_own_digest(const EVP_PKEY *key) {
    return EVP_PKEY_id(key) == EVP_PKEY_ED25519 || EVP_PKEY_id(key) == EVP_PKEY_ED448;
}

static const EVP_MD *digest_of(sl_str_t name) {
    static const struct {
        const char *name;
        const EVP_MD *(*md)(void);
    } digests[] = {{"sha1", EVP_sha1}, {"sha224", EVP_sha224}, {"sha256", EVP_sha256}, {"sha384", EVP_sha384}, {"sha512", EVP_sha512}};
    for (size_t i = 0; i < sizeof(digests) / sizeof(digests[0]); i++) {
        if (sl_str_eq_nocase(name, sl_cstr(digests[i].name))) {
            return digests[i].md();
        }
    }
    return NULL;
}

/* ---- the work ---- */

/*
 * A signature, or a check. The text is digested in steps; the operation with the key cannot stop, nor can any of it with keys that have a
 * digest of their own, which want the whole text at once.
 */
typedef struct {
    pw_vm_t *vm;
    EVP_PKEY *key;
    const EVP_MD *digest; /* NULL: the key's own */
    EVP_MD_CTX *md;
    sl_str_t text, signature; /* signature.data: to be checked */
    unsigned char made[SIGNATURE_BYTES_MAX];
    size_t made_len; /* room, then length */
    bool good;
} work_t;

static void verify_now(void *arg) {
    work_t *w = arg;
    const unsigned char *signature = (const unsigned char *)w->signature.data;
    int rc = w->digest != NULL ? EVP_DigestVerifyFinal(w->md, signature, w->signature.len)
                               : EVP_DigestVerify(w->md, signature, w->signature.len, (const unsigned char *)w->text.data, w->text.len);
    w->good = rc == 1;
    ERR_clear_error(); /* this thread's */
}

static void sign_now(void *arg) {
    work_t *w = arg;
    w->made_len = sizeof(w->made);
    int rc = w->digest != NULL ? EVP_DigestSignFinal(w->md, w->made, &w->made_len)
                               : EVP_DigestSign(w->md, w->made, &w->made_len, (const unsigned char *)w->text.data, w->text.len);
    w->good = rc == 1;
    ERR_clear_error();
}

/* false: not all of it, since nobody waits for the outcome any more, or since memory is missing. */
static bool digest_text(const work_t *w, int (*update)(EVP_MD_CTX *md, const void *data, size_t len)) {
    size_t step;
    for (size_t at = 0; at < w->text.len; at += step) {
        step = w->text.len - at < PW_STEP_BYTES ? w->text.len - at : PW_STEP_BYTES;
        if (update(w->md, w->text.data + at, step) != 1 || !pw_vm_go_on(w->vm)) {
            return false;
        }
    }
    return true;
}

static int verify_update(EVP_MD_CTX *md, const void *data, size_t len) {
    return EVP_DigestVerifyUpdate(md, data, len);
}

static int sign_update(EVP_MD_CTX *md, const void *data, size_t len) {
    return EVP_DigestSignUpdate(md, data, len);
}

/* Small keys are faster than a thread. */
static bool run(work_t *w, void (*now)(void *arg)) {
    if (EVP_PKEY_bits(w->key) > ASIDE_BITS || (w->digest == NULL && w->text.len > ASIDE_TEXT)) {
        (void)pw_foreign_aside(w->vm, now, w);
    } else {
        now(w);
    }
    return w->good;
}

/* NULL, or what is wrong. */
static const char *verify(work_t *w) {
    if (EVP_DigestVerifyInit(w->md, NULL, w->digest, NULL, w->key) != 1) {
        return "this key cannot verify signatures of this kind";
    }
    bool good = (w->digest == NULL || digest_text(w, verify_update)) && run(w, verify_now);
    return good ? NULL : "the signature is not one of this text by this key";
}

static const char *make(work_t *w) {
    if (EVP_DigestSignInit(w->md, NULL, w->digest, NULL, w->key) != 1) {
        return "this key cannot make signatures of this kind";
    }
    return (w->digest == NULL || digest_text(w, sign_update)) && run(w, sign_now) ? NULL : "the text could not be signed";
}

typedef struct {
    sl_str_t hash, der, pem, signature, text;
} request_t;

/* signature_out NULL: verify. */
static const char *work(pw_vm_t *vm, const request_t *r, sl_buf_t *signature_out) {
    work_t w = {.vm = vm, .text = r->text, .signature = r->signature};
    w.key = read_key(r->der, r->pem, signature_out != NULL);
    if (w.key == NULL) {
        return "the key cannot be read";
    }
    bool own = has_own_digest(w.key);
    w.digest = own ? NULL : digest_of(r->hash);
    w.md = EVP_MD_CTX_new();
    const char *bad = w.md == NULL                        ? "out of memory"
                      : w.digest == NULL && !own          ? "this hash function is not supported"
                      : own && r->text.len > OWN_TEXT_MAX ? "the text is too long for this kind of key"
                      : signature_out != NULL             ? make(&w)
                                                          : verify(&w);
    if (bad == NULL && signature_out != NULL && sl_buf_append(signature_out, (const char *)w.made, w.made_len) != SL_OK) {
        bad = "out of memory";
    }
    EVP_MD_CTX_free(w.md);
    EVP_PKEY_free(w.key);
    return bad;
}

/* ---- messages ---- */

static bool verify_field(const pw_proto_field_t *f, void *ud) {
    request_t *r = ud;
    sl_str_t *const to[] = {NULL, &r->hash, &r->der, &r->signature, &r->text, &r->pem};
    if (f->type == PW_PROTO_BYTES && f->number < sizeof(to) / sizeof(to[0])) {
        *to[f->number] = f->bytes;
    }
    return true;
}

static bool sign_field(const pw_proto_field_t *f, void *ud) {
    request_t *r = ud;
    sl_str_t *const to[] = {NULL, &r->hash, &r->der, &r->text, &r->pem};
    if (f->type == PW_PROTO_BYTES && f->number < sizeof(to) / sizeof(to[0])) {
        *to[f->number] = f->bytes;
    }
    return true;
}

pw_result_t pw_foreign_verify_signature(pw_vm_t *vm, pw_ctx_t *ctx, sl_str_t args, sl_buf_t *out) {
    (void)ctx;
    request_t r = {0};
    if (!pw_proto_each(args, verify_field, &r)) {
        return PW_BAD_ARGUMENT;
    }
    const char *bad = work(vm, &r, NULL);
    ERR_clear_error();
    if (bad == NULL) {
        pw_proto_put_varint(out, 1, 1);
    } else {
        pw_proto_put_bytes(out, 2, sl_cstr(bad));
    }
    return out->failed ? PW_INTERNAL_FAILURE : PW_OK;
}

pw_result_t pw_foreign_sign(pw_vm_t *vm, pw_ctx_t *ctx, sl_str_t args, sl_buf_t *out) {
    (void)ctx;
    request_t r = {0};
    sl_buf_t signature;
    if (!pw_proto_each(args, sign_field, &r)) {
        return PW_BAD_ARGUMENT;
    }
    sl_buf_init(&signature, KEY_BYTES_MAX);
    const char *bad = work(vm, &r, &signature);
    ERR_clear_error();
    if (bad == NULL) {
        pw_proto_put_varint(out, 1, 1);
        pw_proto_put_bytes(out, 2, sl_buf_str(&signature));
    } else {
        pw_proto_put_bytes(out, 3, sl_cstr(bad));
    }
    sl_buf_deinit(&signature);
    return out->failed ? PW_INTERNAL_FAILURE : PW_OK;
}
