/* Foreign functions with real keys and large data, and what happens to them when memory is missing. The rest is in tests/conformance. */
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#include "engine_ops.h"
#include "pt.h"
#include "pw_foreign.h"
#include "pw_proto.h"

#include "fail_alloc.h"

typedef struct {
    bool result;
    sl_str_t signature, error;
} answer_t;

static bool verify_answer_field(const pw_proto_field_t *f, void *ud) {
    answer_t *a = ud;
    a->result = a->result || (f->number == 1 && f->integer == 1);
    a->error = pw_proto_is_bytes(f, 2) ? f->bytes : a->error;
    return true;
}

static bool sign_answer_field(const pw_proto_field_t *f, void *ud) {
    answer_t *a = ud;
    a->result = a->result || (f->number == 1 && f->integer == 1);
    a->signature = pw_proto_is_bytes(f, 2) ? f->bytes : a->signature;
    a->error = pw_proto_is_bytes(f, 3) ? f->bytes : a->error;
    return true;
}

typedef struct {
    EVP_PKEY *key;
    unsigned char *private_der, *public_der;
    sl_str_t private_key, public_key, private_pem, public_pem;
    char pem[2][8192];
} keys_t;

static sl_str_t take_pem(BIO *bio, char *to) {
    int n = BIO_read(bio, to, 8192);
    BIO_free(bio);
    return sl_str(to, (size_t)n);
}

static void keys_make(keys_t *k, EVP_PKEY *key) {
    assert_non_null(key);
    *k = (keys_t){.key = key};
    int n = i2d_PrivateKey(key, &k->private_der);
    k->private_key = sl_str(k->private_der, (size_t)n);
    n = i2d_PUBKEY(key, &k->public_der);
    k->public_key = sl_str(k->public_der, (size_t)n);
    BIO *bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL), 1);
    k->private_pem = take_pem(bio, k->pem[0]);
    bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_PUBKEY(bio, key), 1);
    k->public_pem = take_pem(bio, k->pem[1]);
}

static void keys_free(keys_t *k) {
    OPENSSL_free(k->private_der);
    OPENSSL_free(k->public_der);
    EVP_PKEY_free(k->key);
}

static sl_buf_t request, out;

static void begin(void) {
    sl_buf_init(&request, 1 << 20);
    sl_buf_init(&out, PW_FOREIGN_BYTES_MAX);
}

static void end(void) {
    sl_buf_deinit(&request);
    sl_buf_deinit(&out);
}

/* The signature is put into `signature`. */
static answer_t sign_with(const keys_t *k, bool pem, const char *hash, const char *text, sl_buf_t *signature) {
    answer_t a = {0};
    sl_buf_reset(&request);
    sl_buf_reset(&out);
    pw_proto_put_bytes(&request, 1, sl_cstr(hash));
    pw_proto_put_bytes(&request, pem ? 4 : 2, pem ? k->private_pem : k->private_key);
    pw_proto_put_bytes(&request, 3, sl_cstr(text));
    assert_int_equal(pw_foreign_sign(NULL, NULL, sl_buf_str(&request), &out), PW_OK);
    assert_true(pw_proto_each(sl_buf_str(&out), sign_answer_field, &a));
    sl_buf_reset(signature);
    sl_buf_append_str(signature, a.signature);
    return a;
}

static bool verified(const keys_t *k, bool pem, const char *hash, const char *text, sl_str_t signature) {
    answer_t a = {0};
    sl_buf_reset(&request);
    sl_buf_reset(&out);
    pw_proto_put_bytes(&request, 1, sl_cstr(hash));
    pw_proto_put_bytes(&request, pem ? 5 : 2, pem ? k->public_pem : k->public_key);
    pw_proto_put_bytes(&request, 3, signature);
    pw_proto_put_bytes(&request, 4, sl_cstr(text));
    assert_int_equal(pw_foreign_verify_signature(NULL, NULL, sl_buf_str(&request), &out), PW_OK);
    assert_true(pw_proto_each(sl_buf_str(&out), verify_answer_field, &a));
    assert_true(a.result == (a.error.len == 0));
    return a.result;
}

static void round_trip(EVP_PKEY *key, const char *hash) {
    sl_buf_t signature;
    keys_t k;
    keys_make(&k, key);
    begin();
    sl_buf_init(&signature, 1 << 16);
    for (int pem = 0; pem < 2; pem++) {
        assert_true(sign_with(&k, pem, hash, "the text", &signature).result);
        assert_true(verified(&k, pem, hash, "the text", sl_buf_str(&signature)));
        assert_true(verified(&k, !pem, hash, "the text", sl_buf_str(&signature)));
        assert_false(verified(&k, pem, hash, "another text", sl_buf_str(&signature)));
        signature.data[signature.len / 2] ^= 1;
        assert_false(verified(&k, pem, hash, "the text", sl_buf_str(&signature)));
        assert_false(verified(&k, pem, hash, "the text", SL_STR("")));
    }
    sl_buf_deinit(&signature);
    end();
    keys_free(&k);
}

static void signatures_of_rsa_keys_are_made_and_verified_with_each_hash(void **state) {
    (void)state;
    static const char *const hashes[] = {"sha1", "sha224", "sha256", "SHA384", "sha512"};
    for (size_t i = 0; i < sizeof(hashes) / sizeof(hashes[0]); i++) {
        round_trip(EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)1024), hashes[i]);
    }
}

static void signatures_of_elliptic_curves_are_made_and_verified(void **state) {
    (void)state;
    round_trip(EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256"), "sha256");
    round_trip(EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), "");
}

static void a_signature_by_another_key_or_hash_is_none(void **state) {
    (void)state;
    keys_t k, other;
    sl_buf_t signature;
    keys_make(&k, EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)1024));
    keys_make(&other, EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)1024));
    begin();
    sl_buf_init(&signature, 1 << 16);
    assert_true(sign_with(&k, false, "sha256", "t", &signature).result);
    assert_false(verified(&other, false, "sha256", "t", sl_buf_str(&signature)));
    assert_false(verified(&k, false, "sha1", "t", sl_buf_str(&signature)));
    assert_false(verified(&k, false, "md5", "t", sl_buf_str(&signature)));
    assert_true(sl_str_eq(sign_with(&k, false, "md5", "t", &signature).error, SL_STR("this hash function is not supported")));
    sl_buf_deinit(&signature);
    end();
    keys_free(&k);
    keys_free(&other);
}

/* It must not ask for a pass phrase either: the test would hang. */
static void keys_that_are_locked_or_no_keys_are_refused(void **state) {
    (void)state;
    keys_t k;
    sl_buf_t signature;
    keys_make(&k, EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256"));
    BIO *bio = BIO_new(BIO_s_mem());
    char locked[8192];
    assert_int_equal(PEM_write_bio_PrivateKey(bio, k.key, EVP_aes_128_cbc(), (const unsigned char *)"secret", 6, NULL, NULL), 1);
    keys_t bad = {
        .private_pem = take_pem(bio, locked), .private_key = k.public_key, .public_key = k.private_key, .public_pem = SL_STR("-----BEGIN")};
    begin();
    sl_buf_init(&signature, 1 << 16);
    for (int pem = 0; pem < 2; pem++) {
        assert_true(sl_str_eq(sign_with(&bad, pem, "sha256", "t", &signature).error, SL_STR("the key cannot be read")));
        assert_false(verified(&bad, pem, "sha256", "t", SL_STR("x")));
    }
    sl_buf_deinit(&signature);
    end();
    keys_free(&k);
}

/* ---- keys that are made to be slow ---- */

/* A number of DER: `bits` ones. */
static void put_number(sl_buf_t *to, size_t bits) {
    size_t len = bits / 8 + 1;
    const char head[] = {2, (char)0x82, (char)(len >> 8), (char)len, (char)((1 << bits % 8) - 1)};
    sl_buf_append(to, head, sizeof(head));
    for (size_t i = 0; i < bits / 8; i++) {
        sl_buf_append_char(to, (char)0xff);
    }
}

/* An RSA key (PKCS #1) whose modulus has 1024 bits, and whose private exponents have as many as asked for. */
static sl_str_t odd_rsa_key(sl_buf_t *to, size_t d_bits, size_t crt_bits) {
    sl_buf_t numbers;
    const size_t sizes[] = {0, 1024, 17, d_bits, 512, 512, crt_bits, crt_bits, 2};
    sl_buf_init(&numbers, 1 << 16);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        put_number(&numbers, sizes[i]);
    }
    const char head[] = {0x30, (char)0x82, (char)(numbers.len >> 8), (char)numbers.len};
    sl_buf_reset(to);
    sl_buf_append(to, head, sizeof(head));
    sl_buf_append_str(to, sl_buf_str(&numbers));
    sl_buf_deinit(&numbers);
    return sl_buf_str(to);
}

static bool key_is_read(sl_str_t der) {
    keys_t k = {.private_key = der};
    sl_buf_t signature;
    sl_buf_init(&signature, 1 << 16);
    bool read = !sl_str_eq(sign_with(&k, false, "sha256", "t", &signature).error, SL_STR("the key cannot be read"));
    sl_buf_deinit(&signature);
    return read;
}

static void rsa_keys_with_exponents_longer_than_their_modulus_are_refused(void **state) {
    (void)state;
    sl_buf_t der;
    begin();
    sl_buf_init(&der, 1 << 16);
    assert_true(key_is_read(odd_rsa_key(&der, 1020, 510)));
    assert_false(key_is_read(odd_rsa_key(&der, 100000, 510)));
    assert_false(key_is_read(odd_rsa_key(&der, 1020, 50000)));
    sl_buf_deinit(&der);
    end();
}

static void keys_of_other_kinds_are_refused(void **state) {
    (void)state;
    static const char *const kinds[] = {"ED448", "X25519"};
    begin();
    for (size_t i = 0; i < 2; i++) {
        keys_t k;
        keys_make(&k, EVP_PKEY_Q_keygen(NULL, NULL, kinds[i]));
        assert_int_equal(key_is_read(k.private_key), i == 0);
        keys_free(&k);
    }
    end();
}

/* ---- zlib ---- */

static void what_is_compressed_comes_back(void **state) {
    (void)state;
    size_t size = 3 << 20;
    char *text = malloc(size);
    sl_buf_t packed;
    for (size_t i = 0; i < size; i++) {
        text[i] = (char)(i * 2654435761u >> 13);
    }
    sl_buf_init(&packed, PW_FOREIGN_BYTES_MAX);
    begin();
    assert_int_equal(pw_foreign_compress(NULL, NULL, sl_str(text, size), &packed), PW_OK);
    assert_int_equal(pw_foreign_uncompress(NULL, NULL, sl_buf_str(&packed), &out), PW_OK);
    assert_int_equal(out.len, size);
    assert_memory_equal(out.data, text, size);
    end();
    sl_buf_deinit(&packed);
    free(text);
}

static void a_bomb_is_refused_at_the_ceiling(void **state) {
    (void)state;
    size_t size = PW_FOREIGN_BYTES_MAX + 1;
    char *zeros = calloc(size, 1);
    uLongf packed_size = compressBound(size);
    Bytef *packed = malloc(packed_size);
    assert_int_equal(compress(packed, &packed_size, (Bytef *)zeros, size), Z_OK);
    begin();
    assert_int_equal(pw_foreign_uncompress(NULL, NULL, sl_str(packed, packed_size), &out), PW_SERIALIZATION_FAILURE);
    assert_true(out.len <= PW_FOREIGN_BYTES_MAX);
    packed_size = compressBound(size);
    assert_int_equal(compress(packed, &packed_size, (Bytef *)zeros, size - 2), Z_OK);
    sl_buf_reset(&out);
    assert_int_equal(pw_foreign_uncompress(NULL, NULL, sl_str(packed, packed_size), &out), PW_OK);
    assert_int_equal(out.len, size - 2);
    end();
    free(packed);
    free(zeros);
}

static sl_status_t give_up(sl_instance_t *instance) {
    return sl_instance_trap(instance, "over the budget");
}

static sl_status_t go_on(sl_instance_t *instance) {
    (void)instance;
    return SL_OK;
}

/* A guest is stopped in its own code only, so that long work for it has to stop by itself. */
static void what_takes_longer_than_the_cpu_budget_is_given_up(void **state) {
    (void)state;
    size_t size = 1 << 20;
    char *text = calloc(size, 1);
    sl_engine_ops_t ops = {.call_pause = give_up};
    sl_instance_t instance = {.ops = &ops};
    pw_vm_t vm = {.instance = &instance};
    begin();
    assert_int_equal(pw_foreign_compress(&vm, NULL, sl_str(text, size), &out), PW_INTERNAL_FAILURE);
    assert_int_equal(pw_foreign_uncompress(&vm, NULL, sl_str(text, size), &out), PW_INTERNAL_FAILURE);
    assert_true(vm.trapped);
    ops.call_pause = go_on;
    sl_buf_reset(&out);
    assert_int_equal(pw_foreign_compress(&vm, NULL, sl_str(text, size), &out), PW_OK);
    end();
    free(text);
}

static void missing_memory_is_a_status(void **state) {
    (void)state;
    begin();
    fail_alloc_at(1);
    assert_int_equal(pw_foreign_compress(NULL, NULL, SL_STR("text"), &out), PW_SERIALIZATION_FAILURE);
    fail_alloc_at(0);
    end();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signatures_of_rsa_keys_are_made_and_verified_with_each_hash),
        cmocka_unit_test(signatures_of_elliptic_curves_are_made_and_verified),
        cmocka_unit_test(a_signature_by_another_key_or_hash_is_none),
        cmocka_unit_test(keys_that_are_locked_or_no_keys_are_refused),
        cmocka_unit_test(rsa_keys_with_exponents_longer_than_their_modulus_are_refused),
        cmocka_unit_test(keys_of_other_kinds_are_refused),
        cmocka_unit_test(what_is_compressed_comes_back),
        cmocka_unit_test(what_takes_longer_than_the_cpu_budget_is_given_up),
        cmocka_unit_test(a_bomb_is_refused_at_the_ceiling),
        cmocka_unit_test(missing_memory_is_a_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
