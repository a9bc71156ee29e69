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

# Guests that are built from source with each SDK: see tests/filters/README.md. Which of them this machine can build is asked late, too.
# The crates share a target directory with the template, for one standard library.
RUST_TARGET := $(ROOT)/$(B)/rust
$(B)/filters/my-rust-filter.wasm: export CARGO_TARGET_DIR = $(RUST_TARGET)

SDK_C := $(B)/filters/sdk_c.wasm $(B)/filters/sdk_c_010.wasm
SDK_CPP := $(B)/filters/sdk_cpp.wasm
SDK_RUST := $(patsubst tests/filters/rust/%/Cargo.toml,$(B)/filters/sdk_rust_%.wasm,$(wildcard tests/filters/rust/*/Cargo.toml))
SDK_GO := $(patsubst tests/filters/go/%/main.go,$(B)/filters/sdk_go_%.wasm,$(wildcard tests/filters/go/*/main.go))
SDK_AS := $(B)/filters/sdk_as.wasm

WASI_CXXFLAGS := -std=c++17 -Wall -Wextra -Werror --target=wasm32-wasi -mexec-model=reactor -O2 -fno-exceptions -fvisibility=hidden -Isdk/c
$(SDK_C): tests/filters/c/matrix.c $(SDK) | $(B)/deps/.packages-test
	@mkdir -p $(@D)
	@echo "  WASM    $< ($(@F))"
	@$(CLANG) $(WASM_CFLAGS) $(WASM_LDFLAGS) $(if $(findstring 010,$@),-DPROXY_WASM_ABI_0_1_0) -o $@.$$$$ $< && mv $@.$$$$ $@

$(SDK_CPP): tests/filters/cpp/matrix.cc $(SDK) | $(B)/deps/.packages-test
	@mkdir -p $(@D)
	@echo "  WASM    $<"
	@$(subst clang,clang++,$(CLANG)) $(WASI_CXXFLAGS) -Wl,--allow-undefined -Wl,--export=malloc -o $@.$$$$ $< && mv $@.$$$$ $@

# Filters in the manner of published ones are examples of one crate.
SDK_RUST += $(patsubst tests/filters/rust-styles/examples/%.rs,$(B)/filters/style_rust_%.wasm,$(wildcard tests/filters/rust-styles/examples/*.rs))
$(B)/filters/style_rust_%.wasm: tests/filters/rust-styles/examples/%.rs tests/filters/rust-styles/Cargo.toml tests/filters/rust-styles/Cargo.lock tools/build-rust.sh
	@mkdir -p $(@D)
	@echo "  FILTER  $<"
	@CARGO_TARGET_DIR=$(RUST_TARGET) tools/build-rust.sh tests/filters/rust-styles $@ $*

$(B)/filters/sdk_rust_%.wasm: tests/filters/rust/%/Cargo.toml tests/filters/rust/%/Cargo.lock tests/filters/rust/%/lib.rs tests/filters/rust/matrix.rs tools/build-rust.sh
	@mkdir -p $(@D)
	@echo "  FILTER  $(<D)"
	@CARGO_TARGET_DIR=$(RUST_TARGET) tools/build-rust.sh $(<D) $@

$(B)/filters/sdk_go_%.wasm: tests/filters/go/%/main.go tests/filters/go/go.mod tests/filters/go/go.sum
	@mkdir -p $(@D)
	@echo "  FILTER  $(<D)"
	@cd tests/filters/go && GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -o $(ROOT)/$@.$$$$ ./$* && mv $(ROOT)/$@.$$$$ $(ROOT)/$@

$(SDK_AS): tests/filters/assemblyscript/assembly/index.ts tests/filters/assemblyscript/package-lock.json tools/build-assemblyscript.sh
	@mkdir -p $(@D)
	@echo "  FILTER  tests/filters/assemblyscript"
	@flock $(@D)/.lock-as tools/build-assemblyscript.sh tests/filters/assemblyscript $@

.PHONY: filters sdk-filters templates template-rust
filters: $(TEST_FILTERS) sdk-filters ## the guests of the tests
sdk-filters: $(SDK_C) $(SDK_CPP) $(if $(filter go,$(TEMPLATE_LANGUAGES)),$(SDK_GO)) $(B)/deps/.packages-rust ## the guests of the tests in each language, where this machine can compile it
	@if tools/have-template.sh rust; then $(MAKE) --no-print-directory $(SDK_RUST); fi
	@if tools/have-template.sh as; then $(MAKE) --no-print-directory $(SDK_AS); fi
template-rust: $(B)/deps/.packages-rust
	@if tools/have-template.sh rust; then $(MAKE) --no-print-directory $(B)/filters/my-rust-filter.wasm; fi
templates: $(TEMPLATE_FILTERS) template-rust ## the example filters, in each language that this machine can compile

# `make run` shows the Go filter where Go is new enough, else the one in C.
RUN_FILTER := $(B)/filters/my-$(if $(filter go,$(TEMPLATE_LANGUAGES)),go,c)-filter.wasm
BENCH_FILTERS := $(TEMPLATE_FILTERS) $(patsubst tests/filters/%.c,$(B)/filters/%.wasm,$(wildcard tests/filters/bench_*.c))
