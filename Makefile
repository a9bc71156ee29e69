# The conductor. `make help` says what there is; the rules are in mk/, the scripts in tools/. Everything built is under build/.
#
#   NGINX=debian   the module for Debian's nginx, built with its nginx-dev package (the default)
#   NGINX=stable   nginx and the module from the pinned sources, see tools/versions.env
#   NGINX=asan     the same with AddressSanitizer and UBSAN

SHELL := /bin/bash
MAKEFLAGS += --no-builtin-rules --no-builtin-variables
.DELETE_ON_ERROR:
# As many jobs as there are processors; one after the other where the order of the goals matters.
JOBS ?= $(if $(filter clean distclean,$(MAKECMDGOALS)),1,$(shell nproc 2>/dev/null || echo 1))
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(JOBS)
endif
.SECONDARY:

NGINX ?= debian
# nginx reads inherited sockets from an environment variable of that name.
unexport NGINX
CC := gcc
AR := ar
ROOT := $(CURDIR)
B := build

include tools/versions.env
CLANG := clang-$(CLANG_MAJOR)

.PHONY: help all
help: ## this list
	@echo "Sluice: build/bin/sluice and build/modules/ngx_http_sluice_module.so"
	@grep -hE '^[a-z<>-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z<>-]+):.*## (.*)/  \1|\2/' | sort | awk -F'|' '{ printf "%-20s%s\n", $$1, $$2 }'
	@printf '  %-20s%s\n' 'fuzz-<name>' 'builds and runs one fuzzer for FUZZ_SECONDS (60): $(FUZZERS)'
	@printf '  %-20s%s\n' 'bench-<name>' 'measures one library: $(BENCH_RUN)'

include mk/deps.mk
include mk/libs.mk
include mk/nginx.mk
include mk/filters.mk
include mk/fuzz.mk
include mk/tests.mk
include mk/bench.mk
include mk/lint.mk

all: $(B)/bin/sluice $(MODULE) compile_commands.json ## builds the command line, the nginx module and compile_commands.json

.PHONY: reference
reference: $(B)/bin/sluice ## writes docs/reference/entities.md from the entity tables
	@$< schema entities >docs/reference/entities.md.new && mv docs/reference/entities.md.new docs/reference/entities.md

.PHONY: run doctor clean distclean
run: all $(RUN_FILTER) ## builds, starts upstream and gateway on examples/hello, makes one request (ONCE=1: then stops)
	@RUN_NGINX=$(NGINX) RUN_FILTER=$(RUN_FILTER) tools/run.sh

doctor: ## what was found, with versions, and what is missing
	@tools/doctor.sh

PREFIX ?= /usr/local
.PHONY: install
install: all ## copies what was built under PREFIX (/usr/local); DESTDIR is honoured
	install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(PREFIX)/lib/sluice"
	install -m 755 $(B)/bin/sluice "$(DESTDIR)$(PREFIX)/bin/sluice"
	install -m 644 $(MODULE) $(dir $(MODULE))libwasmtime.so "$(DESTDIR)$(PREFIX)/lib/sluice/"

clean: ## removes what was built, keeps what was downloaded
	find $(B) -mindepth 1 -maxdepth 1 ! -name deps ! -name venv -exec rm -rf {} + 2>/dev/null || true
	rm -f compile_commands.json

distclean: clean ## removes build/ with the downloads
	rm -rf $(B)
