# make lint: clang's opinion on every file, the layers, the format, and what no file may contain.

NGINX_INCLUDES := $(addprefix -isystem /usr/share/nginx/src/src/,core event event/modules event/quic os/unix http http/modules http/v2 stream) \
	-isystem $(B)/nginx/debian/module
NGINX_SRC := $(call sources_of,nginx)
# As nginx itself is compiled: its callbacks have arguments that not every module needs.
NGINX_FLAGS := $(WARN) -Wno-unused-parameter $(CPPFLAGS_COMMON) $(addprefix -I,$(call dirs_of,src/nginx)) $(addprefix -Isrc/,$(SEES_nginx)) $(NGINX_INCLUDES)
nginx_commands = $(foreach f,$(NGINX_SRC),$(call compile_command,$(f),$(NGINX_FLAGS)))

LINT_CLANG_FLAGS := -fsyntax-only -O1

define lint_rules # name sources flags
$(patsubst %.c,$(B)/lint/%.ok,$(2)): $(B)/lint/%.ok: %.c .clang-format mk/lint.mk | $(B)/deps/.packages-lint $(WASMTIME_READY)
	@mkdir -p $$(@D)
	@$(CLANG) $(3) $(LINT_CLANG_FLAGS) -MMD -MP -MF $$(@:.ok=.d) -MT $$@ $$< && touch $$@
LINT_OK += $(patsubst %.c,$(B)/lint/%.ok,$(2))
endef

lint_flags = $(WARN) $(CPPFLAGS_COMMON) $(call includes_of,$(1)) $(EXTRA_INCLUDES_$(1))
$(foreach l,$(LAYERS),$(if $(call sources_of,$(l)),$(eval $(call lint_rules,$(l),$(call sources_of,$(l)),$(call lint_flags,$(l))))))
$(foreach l,$(TEST_LAYERS) conformance,$(if $(TEST_SRC_$(l))$(TEST_HELPER_$(l)),$(eval $(call lint_rules,$(l),$(TEST_SRC_$(l)) $(TEST_HELPER_$(l)),$(TEST_FLAGS_$(l))))))
$(if $(SUPPORT_SRC),$(eval $(call lint_rules,support,$(SUPPORT_SRC),$(FLAGS_support))))
$(eval $(call lint_rules,fuzz,$(sort $(wildcard fuzz/*.c)),$(FUZZ_FLAGS)))
$(if $(BENCH_SRC),$(eval $(call lint_rules,bench,$(BENCH_SRC),$(BENCH_FLAGS))))
$(if $(FILTER_C),$(eval $(call lint_rules,filters,$(FILTER_C),$(WASM_CFLAGS))))
$(if $(NGINX_SRC),$(eval $(call lint_rules,nginx,$(NGINX_SRC),$(NGINX_FLAGS))))
# Debian's nginx as configured for the module has the headers that configure makes.
$(patsubst %.c,$(B)/lint/%.ok,$(NGINX_SRC)): $(MODULE_debian)
-include $(LINT_OK:.ok=.d)

FORMATTED = $(shell git ls-files -co --exclude-standard -- 'src/*.[ch]' 'tests/*.[ch]' 'fuzz/*.[ch]' 'bench/*.[ch]' 'sdk/*.[ch]' 'templates/*.[ch]' 2>/dev/null)

.PHONY: lint lint-clang lint-layers lint-format lint-scripts format
lint: lint-clang lint-layers lint-format lint-scripts ## warnings of clang, layers, format, texts
	@echo "lint: ok"

lint-clang: $(LINT_OK)

lint-layers:
	@python3 tools/check-layers.py

lint-format: | $(B)/deps/.packages-lint
	@clang-format-$(CLANG_MAJOR) --dry-run -Werror $(FORMATTED)

lint-scripts:
	@for f in tools/*.sh .ci/run; do bash -n $$f || exit 1; done

format: | $(B)/deps/.packages-lint ## clang-format over all C
	@clang-format-$(CLANG_MAJOR) -i $(FORMATTED)
