# fuzz/fuzz_<name>.c defines LLVMFuzzerTestOneInput; seeds are in fuzz/corpus/<name>/.
# `make fuzz-<name>` fuzzes with libFuzzer; `make test` replays the seeds and fixed mutations of them through replay_main.c.

FUZZ_SRC := $(sort $(wildcard fuzz/fuzz_*.c))
FUZZERS := $(FUZZ_SRC:fuzz/fuzz_%.c=%)
FUZZ_REPLAY := $(FUZZ_SRC:fuzz/%.c=$(B)/asan/fuzz/%)
FUZZ_SECONDS ?= 60
FUZZ_LAYERS := node memhost proxywasm engine gateway store shm base
FUZZ_INCLUDES := $(addprefix -Isrc/,$(FUZZ_LAYERS)) -Ifuzz
FUZZ_LIBS := $(foreach l,$(LINK_ORDER),$(if $(filter $(l),$(FUZZ_LAYERS)),lib$(l).a))
FUZZ_FLAGS := $(WARN) $(CPPFLAGS_COMMON) $(FUZZ_INCLUDES) $(CFLAGS_asan)
$(call remember,$(B)/asan/fuzz.flags,$(CC) $(FUZZ_FLAGS))

$(B)/asan/fuzz/%.o: fuzz/%.c $(B)/asan/fuzz.flags | $(B)/deps/.packages-build $(WASMTIME_READY)
	@mkdir -p $(@D)
	@$(call COMPILE,$(FUZZ_FLAGS))

$(FUZZ_REPLAY): %: %.o $(B)/asan/fuzz/replay_main.o $(addprefix $(B)/asan/,$(FUZZ_LIBS)) | $(WASMTIME_READY)
	@echo "  REPLAY  $@"
	@$(CC) $(LDFLAGS_asan) -o $@.$$$$ $(filter %.o,$^) $(call link_libs,$^) $(TEST_RPATH) $(EXTERNAL_LIBS) && mv $@.$$$$ $@ || { rm -f $@.$$$$; exit 1; }
-include $(FUZZ_REPLAY:%=%.d) $(B)/asan/fuzz/replay_main.d

# The third flavor: everything with clang, so that libFuzzer sees the branches of the code under test.
FUZZ_CLANG_FLAGS := $(WARN) $(CPPFLAGS_COMMON) -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
FUZZ_LIB_SRC = $(foreach l,$(FUZZ_LAYERS),$(SRC_$(l)))
FUZZ_LIB_OBJ = $(patsubst src/%.c,$(B)/fuzz/obj/%.o,$(FUZZ_LIB_SRC))

define fuzz_layer_rules # layer
$(B)/fuzz/obj/$(1)/%.o: src/$(1)/%.c | $(B)/deps/.packages-fuzz $(NEEDS_$(1))
	@mkdir -p $$(@D)
	@$(CLANG) $(FUZZ_CLANG_FLAGS) $(call includes_of,$(1)) $(EXTRA_INCLUDES_$(1)) -MMD -MP -c -o $$@ $$<
endef
$(foreach l,$(FUZZ_LAYERS),$(eval $(call fuzz_layer_rules,$(l))))

# One archive, so that a target links what it needs and not what is broken elsewhere.
$(B)/fuzz/libsluice.a: $(FUZZ_LIB_OBJ)
	@$(ARCHIVE)

$(B)/fuzz/fuzz_%: fuzz/fuzz_%.c $(B)/fuzz/libsluice.a
	@echo "  FUZZ    $@"
	@$(CLANG) $(FUZZ_CLANG_FLAGS) -fsanitize=fuzzer $(FUZZ_INCLUDES) -o $@ $^ $(TEST_RPATH) $(EXTERNAL_LIBS)
-include $(FUZZ_LIB_OBJ:.o=.d)

.PHONY: $(addprefix fuzz-,$(FUZZERS))
$(addprefix fuzz-,$(FUZZERS)): fuzz-%: $(B)/fuzz/fuzz_%
	@mkdir -p $(B)/fuzz/found/$* $(B)/fuzz/corpus/$* fuzz/corpus/$*
	$(B)/fuzz/fuzz_$* -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
		-artifact_prefix=$(B)/fuzz/found/$*/ $(FUZZ_ARGS) $(B)/fuzz/corpus/$* fuzz/corpus/$*
