#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "cmocka_all.h"
#include "gw_config_support.h"
#include "gw_pem.h"
#include "gw_schema.h"

/* Keys and certificates are made when the tests start. */
static struct {
    char *ca, *ca_key, *ec, *ec_key, *rsa, *rsa_key;
} made;

static char *take_text(BIO *bio) {
    char *data;
    long len = BIO_get_mem_data(bio, &data);
    char *text = strndup(data, (size_t)len);
    BIO_free(bio);
    return text;
}

static char *key_text(EVP_PKEY *key) {
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
    return take_text(bio);
}

/* Self-signed, valid for a day from TEST_NOW on. */
static char *certificate_text(EVP_PKEY *key, const char *constraints) {
    X509 *x = X509_new();
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    ASN1_TIME_set(X509_getm_notBefore(x), TEST_NOW);
    ASN1_TIME_set(X509_getm_notAfter(x), TEST_NOW + 86400);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(x));
    X509_set_pubkey(x, key);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, constraints);
    X509_add_ext(x, extension, -1);
    X509_EXTENSION_free(extension);
    X509_sign(x, key, EVP_sha256());
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, x);
    X509_free(x);
    return take_text(bio);
}

static void make(EVP_PKEY *key, const char *constraints, char **certificate, char **key_pem) {
    *certificate = certificate_text(key, constraints);
    *key_pem = key_text(key);
    EVP_PKEY_free(key);
}

static int start(void **state) {
    (void)state;
    make(EVP_EC_gen("P-256"), "critical,CA:TRUE", &made.ca, &made.ca_key);
    make(EVP_EC_gen("P-256"), "CA:FALSE", &made.ec, &made.ec_key);
    make(EVP_RSA_gen(1024), "CA:FALSE", &made.rsa, &made.rsa_key);
    return made.rsa_key != NULL ? 0 : -1;
}

static int stop(void **state) {
    (void)state;
    char *all[] = {made.ca, made.ca_key, made.ec, made.ec_key, made.rsa, made.rsa_key};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        free(all[i]);
    }
    return 0;
}

static json_t *errors_at(const char *collection, json_t *entity, int64_t now_s) {
    gw_validate_env_t env = test_env();
    json_t *canonical, *errors;
    env.now_s = now_s;
    gw_validation_t v = {.env = &env, .kind = gw_entity_find(sl_cstr(collection)), .mode = GW_INSERT};
    sl_status_t rc = gw_entity_validate(&v, entity, &canonical, &errors);
    assert_true(rc == SL_OK || rc == SL_INVALID);
    json_decref(canonical);
    json_decref(entity);
    return errors;
}

static void assert_pair(json_t *entity, const char *expected) {
    json_t *errors = errors_at("certificates", entity, TEST_NOW);
    if (expected == NULL) {
        assert_null(errors);
    } else {
        test_json_equal(errors, expected);
    }
    json_decref(errors);
}

static void test_a_certificate_needs_its_own_key(void **state) {
    (void)state;
    assert_pair(json_pack("{s:s,s:s}", "cert", made.ec, "key", made.ec_key), NULL);
    assert_pair(json_pack("{s:s,s:s}", "cert", made.ec, "key", made.ca_key), "{\"@entity\":[\"certificate does not match key\"]}");
    assert_pair(json_pack("{s:s,s:s}", "cert", made.ec, "key", made.rsa_key), "{\"@entity\":[\"certificate does not match key\"]}");
}

static void test_what_is_no_pem_is_refused_per_field(void **state) {
    (void)state;
    json_t *errors = errors_at("certificates", json_pack("{s:s,s:s}", "cert", "x", "key", made.ec), TEST_NOW);
    assert_int_equal(strncmp(json_string_value(json_object_get(errors, "cert")), "invalid certificate: ", 21), 0);
    assert_int_equal(strncmp(json_string_value(json_object_get(errors, "key")), "invalid key: ", 13), 0);
    json_decref(errors);
}

static void test_the_alternative_pair_is_whole_and_of_the_other_kind(void **state) {
    (void)state;
    assert_pair(json_pack("{s:s,s:s,s:s,s:s}", "cert", made.ec, "key", made.ec_key, "cert_alt", made.rsa, "key_alt", made.rsa_key), NULL);
    assert_pair(json_pack("{s:s,s:s,s:s}", "cert", made.ec, "key", made.ec_key, "cert_alt", made.rsa),
                "{\"@entity\":[\"all or none of these fields must be set: 'cert_alt', 'key_alt'\"]}");
    assert_pair(json_pack("{s:s,s:s,s:s,s:s}", "cert", made.ec, "key", made.ec_key, "cert_alt", made.ca, "key_alt", made.ca_key),
                "{\"@entity\":[\"certificate and alternative certificate need to have different type (e.g. RSA and ECDSA), the provided "
                "certificates "
                "were both of the same type\"]}");
}

static void assert_ca(const char *pem, int64_t now_s, const char *expected) {
    json_t *errors = errors_at("ca_certificates", json_pack("{s:s}", "cert", pem), now_s);
    test_json_equal(errors, expected);
    json_decref(errors);
}

static void test_a_ca_certificate_is_one_valid_ca(void **state) {
    (void)state;
    char *two;
    assert_true(asprintf(&two, "%s%s", made.ca, made.ca) > 0);
    assert_null(errors_at("ca_certificates", json_pack("{s:s}", "cert", made.ca), TEST_NOW));
    assert_ca(made.ec, TEST_NOW,
              "{\"@entity\":[\"certificate does not appear to be a CA because it is missing the \\\"CA\\\" basic constraint\"]}");
    assert_ca(made.ca, TEST_NOW + 86401, "{\"@entity\":[\"certificate expired, \\\"Not After\\\" time is in the past\"]}");
    assert_ca(two, TEST_NOW, "{\"@entity\":[\"please submit only one certificate at a time\"]}");
    free(two);
}

static void test_the_digest_of_a_ca_certificate_is_computed(void **state) {
    (void)state;
    gw_pem_info_t info;
    gw_validate_env_t env = test_env();
    json_t *input = json_pack("{s:s,s:s}", "cert", made.ca, "cert_digest", "made up"), *entity, *errors;
    gw_validation_t v = {.env = &env, .kind = gw_entity_find(SL_STR("ca_certificates")), .mode = GW_INSERT};
    assert_int_equal(gw_entity_validate(&v, input, &entity, &errors), SL_OK);
    assert_true(gw_pem_certificate_info(sl_cstr(made.ca), &info));
    assert_int_equal(strlen(info.digest), 64);
    assert_string_equal(json_string_value(json_object_get(entity, "cert_digest")), info.digest);
    json_decref(input);
    json_decref(entity);
}

static void test_server_names_may_be_children_of_their_certificate(void **state) {
    (void)state;
    gw_validate_env_t env = test_env();
    json_t *entities, *errors,
        *doc = json_pack("{s:s,s:[{s:s,s:s,s:[{s:s}]}]}", "_format_version", "3.0", "certificates", "cert", made.ec, "key", made.ec_key,
                         "snis", "name", "a.test");
    assert_int_equal(gw_config_validate(doc, &env, &entities, &errors), SL_OK);
    const json_t *certificate = test_only(entities, "certificates"), *sni = test_only(entities, "snis");
    assert_true(json_equal(json_object_get(json_object_get(sni, "certificate"), "id"), json_object_get(certificate, "id")));
    assert_null(json_object_get(certificate, "snis"));
    json_decref(doc);
    json_decref(entities);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_certificate_needs_its_own_key),
        cmocka_unit_test(test_what_is_no_pem_is_refused_per_field),
        cmocka_unit_test(test_the_alternative_pair_is_whole_and_of_the_other_kind),
        cmocka_unit_test(test_a_ca_certificate_is_one_valid_ca),
        cmocka_unit_test(test_the_digest_of_a_ca_certificate_is_computed),
        cmocka_unit_test(test_server_names_may_be_children_of_their_certificate),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
