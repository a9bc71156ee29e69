# make bench: instructions per request in nginx. bench/*.c measure one library each: make bench-<name>.

BENCH_SRC := $(sort $(wildcard bench/*.c))
BENCH_NAMES := $(BENCH_SRC:bench/%.c=%)
BENCH_LAYERS := memhost proxywasm engine store gateway shm base
BENCH_LIBS := $(foreach l,$(BENCH_LAYERS),$(B)/release/lib$(l).a)
BENCH_FLAGS := $(WARN) $(CPPFLAGS_COMMON) $(addprefix -Isrc/,$(BENCH_LAYERS)) -O2 -g

.PHONY: bench $(addprefix bench-,$(BENCH_NAMES))
bench: all $(B)/deps/.packages-bench $(BENCH_FILTERS) ## instructions per request: plain nginx, add_header, our filters (cachegrind)
	@python3 bench/instructions.py $(BENCH_ARGS)

$(B)/bench/%: bench/%.c $(BENCH_LIBS) | $(WASMTIME_READY)
	@mkdir -p $(@D)
	@$(CC) $(BENCH_FLAGS) -o $@.$$$$ $< $(call link_libs,$^) $(EXTERNAL_LIBS) $(TEST_RPATH) && mv $@.$$$$ $@ || { rm -f $@.$$$$; exit 1; }

$(addprefix bench-,$(BENCH_NAMES)): bench-%: $(B)/bench/%
	@$< $(BENCH_ARGS)
