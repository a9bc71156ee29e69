# What comes from outside: Debian packages by group, Wasmtime, nginx sources, the Python environment of the tests.

WASMTIME := $(B)/deps/wasmtime
WASMTIME_READY := $(WASMTIME)/.version-$(WASMTIME_VERSION)
NGINX_SOURCES := $(B)/deps/nginx-$(NGINX_VERSION)/configure
PYTEST := $(B)/venv/bin/pytest

# What the goals will need is installed in one go, so that it is also announced in one go.
PACKAGE_GROUPS := $(if $(filter debian,$(NGINX)),nginx) \
	$(if $(filter run,$(MAKECMDGOALS)),build run) \
	$(if $(filter test,$(MAKECMDGOALS)),build nginx run test rust)

# The stamp of a group is younger than the script that knows its packages.
$(B)/deps/.packages-%: tools/install-deps.sh
	@tools/install-deps.sh $* $(if $(filter run test,$(MAKECMDGOALS)),$(PACKAGE_GROUPS))

$(WASMTIME_READY): tools/versions.env | $(B)/deps/.packages-build
	@tools/fetch-wasmtime.sh
	@touch $@

$(NGINX_SOURCES): tools/versions.env | $(B)/deps/.packages-build
	@tools/fetch-nginx.sh
	@touch $@

# --require-hashes: nothing is installed whose checksum is not in the file.
$(B)/venv/.requirements: tools/requirements.txt | $(B)/deps/.packages-build
	@tools/make-venv.sh
