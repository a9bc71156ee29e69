# What comes from outside: Debian packages by group, Wasmtime, nginx sources, the Python environment of the tests.

WASMTIME := $(B)/deps/wasmtime
WASMTIME_READY := $(WASMTIME)/.version-$(WASMTIME_VERSION)
NGINX_SOURCES := $(B)/deps/nginx-$(NGINX_VERSION)/configure
PYTEST := $(B)/venv/bin/pytest

# The stamp of a group is younger than the script that knows its packages.
$(B)/deps/.packages-%: tools/install-deps.sh
	@tools/install-deps.sh $*

$(WASMTIME_READY): tools/versions.env | $(B)/deps/.packages-build
	@tools/fetch-wasmtime.sh
	@touch $@

$(NGINX_SOURCES): tools/versions.env | $(B)/deps/.packages-build
	@tools/fetch-nginx.sh
	@touch $@

# --require-hashes: nothing is installed whose checksum is not in the file.
$(B)/venv/.requirements: tools/requirements.txt | $(B)/deps/.packages-build
	@tools/make-venv.sh
