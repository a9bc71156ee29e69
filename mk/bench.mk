# make bench: instructions per request in nginx. bench/*.c measure one library each: make bench-<name>.

BENCH_SRC := $(sort $(wildcard bench/*.c))
BENCH_NAMES := $(BENCH_SRC:bench/%.c=%)
BENCH_LAYERS := memhost proxywasm engine store gateway shm base
BENCH_LIBS := $(foreach l,$(BENCH_LAYERS),$(B)/release/lib$(l).a)
BENCH_FLAGS := $(WARN) $(CPPFLAGS_COMMON) $(addprefix -Isrc/,$(BENCH_LAYERS)) -O2 -g

# What the other parts use, and nobody runs alone.
BENCH_RUN := $(filter-out plan_match open_loop counting,$(BENCH_NAMES))
# Preloaded into what callgrind counts.
COUNTING := $(B)/bench/counting.so

PLAN_BENCH_NEEDS = all $(PYTEST) $(B)/bench/plan_match $(B)/deps/.packages-bench
RUN_BENCH_NEEDS = $(PLAN_BENCH_NEEDS) $(BENCH_FILTERS) template-rust $(B)/bench/open_loop $(COUNTING)
# WASMX: the nginx of WasmX, or its checkout after its own make.
RUN_BENCH = WASMX="$(WASMX)" $(B)/venv/bin/python bench/run.py

.PHONY: bench bench-scale bench-growth bench-plan bench-profile $(addprefix bench-,$(BENCH_RUN))
bench: $(RUN_BENCH_NEEDS) ## what requests, bodies, workers and switches cost beside plain nginx, Lua, njs (WASMX=its checkout); writes docs/performance.md
	@$(RUN_BENCH) $(BENCH_ARGS)

bench-scale: $(RUN_BENCH_NEEDS) ## how start, switch and memory grow up to 100,000 routes, 1,000 chains, 200 filters, 16 workers
	@$(RUN_BENCH) --part scale $(BENCH_ARGS)

bench-growth: $(RUN_BENCH_NEEDS) ## that memory does not grow over a million requests, in each language at each level of isolation (BENCH_ARGS="--served 100000")
	@$(RUN_BENCH) --part growth $(BENCH_ARGS)

bench-profile: all $(B)/deps/.packages-bench $(BENCH_FILTERS) $(COUNTING) ## where the instructions of a case go (BENCH_ARGS="filter-rust plain")
	@python3 bench/profile.py $(BENCH_ARGS)

bench-plan: $(PLAN_BENCH_NEEDS) ## what a plan of 10, 1,000 and 100,000 routes costs (BENCH_ARGS="--routes 10,20000")
	@$(B)/venv/bin/python bench/plan.py $(BENCH_ARGS)

$(B)/bench/open_loop: bench/open_loop.c
	@mkdir -p $(@D)
	@$(CC) $(BENCH_FLAGS) -o $@.$$$$ $< && mv $@.$$$$ $@

$(COUNTING): bench/counting.c | $(B)/deps/.packages-$(if $(filter test%,$(MAKECMDGOALS)),test,bench)
	@mkdir -p $(@D)
	@$(CC) $(BENCH_FLAGS) -fPIC -shared -o $@.$$$$ $< && mv $@.$$$$ $@

$(B)/bench/%: bench/%.c $(BENCH_LIBS) | $(WASMTIME_READY)
	@mkdir -p $(@D)
	@$(CC) $(BENCH_FLAGS) -o $@.$$$$ $< $(call link_libs,$^) $(EXTERNAL_LIBS) $(TEST_RPATH) && mv $@.$$$$ $@ || { rm -f $@.$$$$; exit 1; }

bench-isolation: $(BENCH_FILTERS) template-rust

$(addprefix bench-,$(BENCH_RUN)): bench-%: $(B)/bench/%
	@$< $(BENCH_ARGS)
