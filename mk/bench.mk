# make bench: instructions per request in nginx. bench/*.c measure one library each: make bench-<name>.

BENCH_SRC := $(sort $(wildcard bench/*.c))
BENCH_NAMES := $(BENCH_SRC:bench/%.c=%)
BENCH_LAYERS := memhost proxywasm engine store gateway shm base
BENCH_LIBS := $(foreach l,$(BENCH_LAYERS),$(B)/release/lib$(l).a)
BENCH_FLAGS := $(WARN) $(CPPFLAGS_COMMON) $(addprefix -Isrc/,$(BENCH_LAYERS)) -O2 -g

PLAN_BENCH_NEEDS = all $(PYTEST) $(B)/bench/plan_match $(B)/deps/.packages-bench

.PHONY: bench bench-plan bench-profile $(addprefix bench-,$(filter-out plan_match open_loop,$(BENCH_NAMES)))
bench: all $(B)/deps/.packages-bench $(BENCH_FILTERS) template-rust $(B)/bench/open_loop ## what a request costs beside plain nginx, Lua and njs; writes docs/performance.md
	@python3 bench/run.py $(BENCH_ARGS)

bench-profile: all $(B)/deps/.packages-bench $(BENCH_FILTERS) ## where the instructions of a case go (BENCH_ARGS="filter-rust plain")
	@python3 bench/profile.py $(BENCH_ARGS)

bench-plan: $(PLAN_BENCH_NEEDS) ## what a plan of 10, 1,000 and 100,000 routes costs (BENCH_ARGS="--routes 10,20000")
	@$(B)/venv/bin/python bench/plan.py $(BENCH_ARGS)

$(B)/bench/%: bench/%.c $(BENCH_LIBS) | $(WASMTIME_READY)
	@mkdir -p $(@D)
	@$(CC) $(BENCH_FLAGS) -o $@.$$$$ $< $(call link_libs,$^) $(EXTERNAL_LIBS) $(TEST_RPATH) && mv $@.$$$$ $@ || { rm -f $@.$$$$; exit 1; }

bench-isolation: $(BENCH_FILTERS) template-rust

$(addprefix bench-,$(filter-out plan_match open_loop,$(BENCH_NAMES))): bench-%: $(B)/bench/%
	@$< $(BENCH_ARGS)
