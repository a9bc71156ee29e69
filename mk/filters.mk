# Guests: tests/filters/*.{c,wat} and the templates, into build/filters.

FILTER_C := $(sort $(wildcard tests/filters/*.c))
FILTER_WAT := $(sort $(wildcard tests/filters/*.wat))
TEST_FILTERS := $(FILTER_C:tests/filters/%.c=$(B)/filters/%.wasm) $(FILTER_WAT:tests/filters/%.wat=$(B)/filters/%.wasm)
SDK := $(wildcard sdk/c/*.h)

WASM_CFLAGS := -std=gnu11 -Wall -Wextra -Werror --target=wasm32 -O2 -nostdlib -fno-builtin -Isdk/c -Itests/filters
WASM_LDFLAGS := -Wl,--no-entry -Wl,--allow-undefined

$(B)/filters/%.wasm: tests/filters/%.c $(SDK) $(wildcard tests/filters/*.h) | $(B)/deps/.packages-test
	@mkdir -p $(@D)
	@echo "  WASM    $<"
	@$(CLANG) $(WASM_CFLAGS) $(WASM_LDFLAGS) -o $@.$$$$ $< && mv $@.$$$$ $@

# These are probe.c with another marker.
$(B)/filters/abi_010.wasm $(B)/filters/abi_020.wasm $(B)/filters/abi_02100.wasm: tests/filters/probe.c

$(B)/filters/%.wasm: tests/filters/%.wat | $(B)/deps/.packages-test
	@mkdir -p $(@D)
	@echo "  WAT     $<"
	@wat2wasm --enable-all -o $@.$$$$ $< && mv $@.$$$$ $@

# Templates are built as their users build them, by their own `make`. Go and Rust only where the toolchain can;
# whether Rust can is known only after the packages of its group have been installed, so that is asked late.
TEMPLATE_LANGUAGES := c
ifneq ($(wildcard templates/go/Makefile),)
TEMPLATE_LANGUAGES += $(shell tools/have-template.sh go && echo go)
endif
TEMPLATE_FILTERS := $(foreach l,$(TEMPLATE_LANGUAGES),$(if $(wildcard templates/$(l)/Makefile),$(B)/filters/my-$(l)-filter.wasm))

define template_rules # language
$(B)/filters/my-$(1)-filter.wasm: $(shell find templates/$(1) -type f ! -name '*.wasm' ! -path '*/target/*' 2>/dev/null) $(if $(filter c,$(1)),$(SDK)) | $(B)/deps/.packages-run
	@mkdir -p $$(@D)
	@echo "  FILTER  templates/$(1)"
	@flock $$(@D)/.lock-$(1) env -u MAKEFLAGS -u MAKELEVEL make -s -C templates/$(1) && cp templates/$(1)/my-$(1)-filter.wasm $$@.$$$$$$$$ && mv $$@.$$$$$$$$ $$@
endef
$(foreach l,c go rust,$(eval $(call template_rules,$(l))))

.PHONY: filters templates template-rust
filters: $(TEST_FILTERS) ## the guests of the tests
template-rust: $(B)/deps/.packages-rust
	@if tools/have-template.sh rust; then $(MAKE) --no-print-directory $(B)/filters/my-rust-filter.wasm; fi
templates: $(TEMPLATE_FILTERS) template-rust ## the example filters, in each language that this machine can compile

# `make run` shows the Go filter where Go is new enough, else the one in C.
RUN_FILTER := $(B)/filters/my-$(if $(filter go,$(TEMPLATE_LANGUAGES)),go,c)-filter.wasm
BENCH_FILTERS := $(TEMPLATE_FILTERS)
