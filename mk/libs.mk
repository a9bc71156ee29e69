# One static library per folder of src/, in two flavors, each compiled with only the include directories of the layers that
# it may see. Sources are found by wildcard; a folder may be empty.

FLAVORS := release asan
LAYERS := base shm engine proxywasm memhost gateway store node cli

# layer -> the folders whose headers it may include, itself first
SEES_base := base
SEES_shm := shm base
SEES_engine := engine base
SEES_proxywasm := proxywasm engine base
SEES_memhost := memhost proxywasm engine base
SEES_gateway := gateway base
SEES_store := store gateway base
SEES_node := node memhost proxywasm engine store gateway base
SEES_cli := cli node memhost proxywasm engine gateway store base
SEES_nginx := node shm memhost proxywasm engine gateway store base

# In link order: each before what it calls.
LINK_ORDER := cli node memhost proxywasm engine store gateway shm base

sources_of = $(sort $(shell find src/$(1) -name '*.c' 2>/dev/null))
headers_of = $(sort $(shell find src/$(1) -name '*.h' 2>/dev/null))
dirs_of = $(sort $(shell find $(1) -type d 2>/dev/null))
includes_of = $(addprefix -I,$(call dirs_of,src/$(1)) $(addprefix src/,$(SEES_$(1))))

WARN := -std=gnu11 -Wall -Wextra -Werror
CPPFLAGS_COMMON := -D_GNU_SOURCE
CFLAGS_release := -O2 -g -fPIC -fvisibility=hidden
CFLAGS_asan := -O1 -g -fPIC -fvisibility=hidden -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
LDFLAGS_release :=
LDFLAGS_asan := -fsanitize=address,undefined

# Of the layers, only the engine may see Wasmtime's headers; the lint narrows that to one file.
EXTRA_INCLUDES_engine := -isystem $(WASMTIME)/include
NEEDS_engine := $(WASMTIME_READY)

# as-needed: a program that does not use a library does not need it at run time.
EXTERNAL_LIBS := -Wl,--as-needed -L$(WASMTIME)/lib -lwasmtime -ljansson -lyaml -lpcre2-8 -lsqlite3 -lnghttp2 -lz -lcrypto -lssl -lpthread -lm -ldl
TEST_RPATH := -Wl,-rpath,$(ROOT)/$(WASMTIME)/lib

compile_flags = $(WARN) $(CPPFLAGS_COMMON) $(call includes_of,$(2)) $(EXTRA_INCLUDES_$(2)) $(CFLAGS_$(1))

# A file whose time changes only when its content does: objects depend on their flags, archives on their list of members. What is compared is
# stripped: GNU make 4.3 leaves the line feed at the end of a file of some lengths.
same = $(and $(findstring x$(1)x,x$(2)x),$(findstring x$(2)x,x$(1)x))
remember = $(if $(call same,$(strip $(if $(wildcard $(1)),$(file <$(1)))),$(strip $(2))),,$(shell mkdir -p $(dir $(1)))$(file >$(1),$(2)))

# Only after a clean in the same call, since it is written while the makefiles are read.
$(B)/%.flags $(B)/%.members:
	@mkdir -p $(@D) && touch $@

# Everything is written beside its place and moved there, so that two makes at once never see half a file.
COMPILE = $(CC) $(1) -MMD -MP -MF $@.$$$$.d -MT $@ -c -o $@.$$$$.o $< && mv $@.$$$$.d $(@:.o=.d) && mv $@.$$$$.o $@ || { rm -f $@.$$$$.*; exit 1; }
ARCHIVE = rm -f $@.$$$$ && $(AR) rcs $@.$$$$ $(filter %.o,$^) && mv $@.$$$$ $@ || { rm -f $@.$$$$; exit 1; }

define layer_rules # flavor layer
SRC_$(2) := $(filter-out src/$(2)/main.c,$(call sources_of,$(2)))
OBJ_$(1)_$(2) := $$(patsubst src/%.c,$(B)/$(1)/obj/%.o,$$(SRC_$(2)))
FLAGS_$(1)_$(2) := $(call compile_flags,$(1),$(2))
$$(call remember,$(B)/$(1)/obj/$(2).flags,$(CC) $$(FLAGS_$(1)_$(2)))
$$(call remember,$(B)/$(1)/obj/$(2).members,members: $$(OBJ_$(1)_$(2)))

$(B)/$(1)/obj/$(2)/%.o: src/$(2)/%.c $(B)/$(1)/obj/$(2).flags | $(B)/deps/.packages-build $(NEEDS_$(2))
	@mkdir -p $$(@D)
	@echo "  CC      $$< ($(1))"
	@$$(call COMPILE,$$(FLAGS_$(1)_$(2)))

$(B)/$(1)/lib$(2).a: $$(OBJ_$(1)_$(2)) $(B)/$(1)/obj/$(2).members
	@mkdir -p $$(@D)
	@$$(ARCHIVE)

-include $$(OBJ_$(1)_$(2):.o=.d)
endef
$(foreach f,$(FLAVORS),$(foreach l,$(LAYERS),$(eval $(call layer_rules,$(f),$(l)))))

# What a program or a test of a layer links: the libraries of all that the layer sees, in link order.
libs_for = $(foreach l,$(LINK_ORDER),$(if $(filter $(l),$(SEES_$(2))),$(B)/$(1)/lib$(l).a))
# Their functions find each other in any order.
link_libs = -Wl,--start-group $(filter %.a,$(1)) -Wl,--end-group

.PHONY: libs $(addprefix lib-,$(LAYERS))
libs: $(foreach l,$(LAYERS),$(B)/release/lib$(l).a) ## the static libraries
$(foreach l,$(LAYERS),$(eval lib-$(l): $(B)/release/lib$(l).a $(B)/asan/lib$(l).a))

# ---- the command line ----

$(B)/modules/libwasmtime.so: $(WASMTIME_READY)
	@mkdir -p $(@D)
	@cp $(WASMTIME)/lib/libwasmtime.so $@.$$$$ && mv $@.$$$$ $@ || { rm -f $@.$$$$; exit 1; }

$(B)/bin/sluice: $(B)/release/obj/cli/main.o $(call libs_for,release,cli) | $(B)/modules/libwasmtime.so
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	@$(CC) $(LDFLAGS_release) -o $@.$$$$ $< $(call link_libs,$^) $(EXTERNAL_LIBS) -Wl,-rpath,'$$ORIGIN/../modules:$$ORIGIN/../lib/sluice' && mv $@.$$$$ $@ || { rm -f $@.$$$$; exit 1; }
-include $(B)/release/obj/cli/main.d

$(B)/asan/bin/sluice: $(B)/asan/obj/cli/main.o $(call libs_for,asan,cli)
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	@$(CC) $(LDFLAGS_asan) -o $@.$$$$ $< $(call link_libs,$^) $(EXTERNAL_LIBS) $(TEST_RPATH) && mv $@.$$$$ $@ || { rm -f $@.$$$$; exit 1; }
-include $(B)/asan/obj/cli/main.d

# ---- for editors ----

define compile_command # file flags
  {"directory": "$(ROOT)", "file": "$(1)", "command": "$(CC) $(subst ",\",$(2)) -c $(1)"},
endef
layer_commands = $(foreach l,$(LAYERS),$(foreach f,$(call sources_of,$(l)),$(call compile_command,$(f),$(FLAGS_asan_$(l)))))

compile_commands.json: $(foreach l,$(LAYERS),$(B)/asan/obj/$(l).flags $(B)/asan/obj/$(l).members)
	@$(file >$@.tmp,$(layer_commands)$(test_commands)$(nginx_commands))(echo '['; sed '/^$$/d; $$ s/, *$$//' $@.tmp; echo ']') >$@.new && rm -f $@.tmp && mv $@.new $@
