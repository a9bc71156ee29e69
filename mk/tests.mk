# Unit tests (cmocka, always with ASAN and UBSAN), conformance tests, integration tests (pytest).
# tests/unit/<layer>/test_*.c is a program each; other .c files of its folder, and tests/unit/support, are linked to all of it.
# tests/conformance works the same way and sees what memhost sees.

TEST_LAYERS := $(LAYERS)
TEST_WRAP := -Wl,--wrap=malloc -Wl,--wrap=calloc -Wl,--wrap=realloc

SEES_conformance := $(SEES_memhost)
SUPPORT_SRC := $(sort $(wildcard tests/unit/support/*.c))
SUPPORT_OBJ := $(SUPPORT_SRC:%.c=$(B)/asan/%.o)
FLAGS_support := $(WARN) $(CPPFLAGS_COMMON) -Itests/unit/support $(CFLAGS_asan)

$(B)/asan/tests/unit/support/%.o: tests/unit/support/%.c | $(B)/deps/.packages-test
	@mkdir -p $(@D)
	@$(call COMPILE,$(FLAGS_support))
-include $(SUPPORT_OBJ:.o=.d)

define test_rules # layer folder
TEST_SRC_$(1) := $(sort $(shell find $(2) -name 'test_*.c' 2>/dev/null))
TEST_HELPER_$(1) := $(sort $(shell find $(2) -name '*.c' ! -name 'test_*.c' 2>/dev/null))
TEST_BIN_$(1) := $$(TEST_SRC_$(1):%.c=$(B)/asan/%)
TEST_HELPER_OBJ_$(1) := $$(TEST_HELPER_$(1):%.c=$(B)/asan/%.o)
TEST_FLAGS_$(1) := $(WARN) $(CPPFLAGS_COMMON) $(addprefix -I,$(call dirs_of,$(2))) -Itests/unit/support $(call includes_of,$(1)) $(CFLAGS_asan)
$$(call remember,$(B)/asan/$(2).flags,$(CC) $$(TEST_FLAGS_$(1)) $(TEST_WRAP) $(LDFLAGS_asan))

$(B)/asan/$(2)/%.o: $(2)/%.c $(B)/asan/$(2).flags | $(B)/deps/.packages-test $(WASMTIME_READY)
	@mkdir -p $$(@D)
	@$$(call COMPILE,$$(TEST_FLAGS_$(1)))

$$(TEST_BIN_$(1)): %: %.o $$(TEST_HELPER_OBJ_$(1)) $$(SUPPORT_OBJ) $$(call libs_for,asan,$(1)) $(B)/asan/$(2).flags | $(WASMTIME_READY)
	@echo "  TEST    $$@"
	@$(CC) $(LDFLAGS_asan) $(if $(wildcard tests/unit/support/*.c),$(TEST_WRAP)) -o $$@.$$$$$$$$ $$(filter %.o,$$^) $$(call link_libs,$$^) $(TEST_RPATH) $(EXTERNAL_LIBS) -lcmocka && mv $$@.$$$$$$$$ $$@ || { rm -f $$@.$$$$$$$$; exit 1; }

-include $$(TEST_SRC_$(1):%.c=$(B)/asan/%.d) $$(TEST_HELPER_OBJ_$(1):.o=.d)

.PHONY: test-unit-$(1)
test-unit-$(1): $$(TEST_BIN_$(1)) $(if $(filter base gateway store,$(1)),,$(TEST_FILTERS))
	@tools/run-tests.sh $(1) $$(TEST_BIN_$(1))
endef
$(foreach l,$(TEST_LAYERS),$(eval $(call test_rules,$(l),tests/unit/$(l))))
$(eval $(call test_rules,conformance,tests/conformance))

UNIT_BIN := $(foreach l,$(TEST_LAYERS),$(TEST_BIN_$(l)))
CONFORMANCE_BIN := $(TEST_BIN_conformance)

test_commands = $(foreach l,$(TEST_LAYERS) conformance,$(foreach f,$(TEST_SRC_$(l)) $(TEST_HELPER_$(l)),$(call compile_command,$(f),$(TEST_FLAGS_$(l)))))

.PHONY: test test-unit test-conformance test-integration test-asan test-fuzz test-templates soak

# What a run of pytest needs, per nginx.
PYTEST_NEEDS := $(B)/bench/open_loop $(B)/bench/counting.so $(B)/venv/.requirements $(B)/deps/.packages-test $(B)/bin/sluice $(TEST_FILTERS) $(TEMPLATE_FILTERS) template-rust sdk-filters
NGINX_NEEDS_debian := $(MODULE_debian)
NGINX_NEEDS_stable := $(MODULE_stable) $(NGINX_BIN_stable)
NGINX_NEEDS_asan := $(MODULE_asan) $(NGINX_BIN_asan)

test: $(UNIT_BIN) $(CONFORMANCE_BIN) $(FUZZ_REPLAY) $(PYTEST_NEEDS) $(NGINX_NEEDS_debian) $(NGINX_NEEDS_asan) ## installs what is missing and runs everything
	@tools/run-tests.sh unit $(UNIT_BIN) -- conformance $(CONFORMANCE_BIN) -- fuzz $(FUZZ_REPLAY) \
		-- templates $(TEMPLATE_LANGUAGES) $$(tools/have-template.sh rust && echo rust) -- pytest:debian -- pytest:asan

test-unit: $(UNIT_BIN) $(TEST_FILTERS) ## unit tests; test-unit-base, test-unit-engine, ... for one library
	@tools/run-tests.sh unit $(UNIT_BIN)

test-conformance: $(CONFORMANCE_BIN) $(TEST_FILTERS) ## the ABI's cases on memhost, with both engines
	@tools/run-tests.sh conformance $(CONFORMANCE_BIN)

test-integration: $(PYTEST_NEEDS) $(NGINX_NEEDS_$(NGINX)) ## pytest against a real nginx (NGINX=debian, stable or asan; PYTEST_ARGS)
	@tools/run-tests.sh pytest:$(NGINX)

test-asan: $(PYTEST_NEEDS) $(NGINX_NEEDS_asan) ## the integration tests on the sanitized nginx
	@tools/run-tests.sh pytest:asan

test-templates: $(B)/bin/sluice $(MODULE_debian) $(TEMPLATE_FILTERS) template-rust ## the templates' own tests
	@tools/run-tests.sh templates $(TEMPLATE_LANGUAGES) $$(tools/have-template.sh rust && echo rust)

test-fuzz: $(FUZZ_REPLAY) ## replays the fuzzers' corpora, with mutations
	@tools/run-tests.sh fuzz $(FUZZ_REPLAY)

# Programs of the unit tests that look at SLUICE_SOAK.
SOAK_UNITS := $(B)/asan/tests/unit/base/test_sl_regex

soak: $(SOAK_UNITS) $(PYTEST_NEEDS) $(NGINX_NEEDS_$(NGINX)) ## the long versions of the tests: pytest's marker soak, with SLUICE_SOAK=1
	@SLUICE_SOAK=1 PYTEST_SECONDS=$${PYTEST_SECONDS:-10800} PYTEST_ARGS="-m soak --durations=0 $${PYTEST_ARGS-}" \
		tools/run-tests.sh unit $(SOAK_UNITS) -- pytest:$(NGINX)
