# The nginx module, for the nginx that NGINX names. src/nginx/config is an ordinary addon configuration of nginx; it takes
# SLUICE_INCS (include directories) and SLUICE_LIBS (what to link) from the environment.

ifeq ($(filter $(NGINX),debian stable asan),)
$(error NGINX=$(NGINX): use debian, stable or asan)
endif

MODULE_debian := $(B)/modules/ngx_http_sluice_module.so
MODULE_stable := $(B)/nginx/stable/modules/ngx_http_sluice_module.so
MODULE_asan := $(B)/nginx/asan/modules/ngx_http_sluice_module.so
MODULE := $(MODULE_$(NGINX))

NGINX_BIN_debian :=
NGINX_BIN_stable := $(B)/nginx/stable/sbin/nginx
NGINX_BIN_asan := $(B)/nginx/asan/sbin/nginx

MODULE_LIBS := $(foreach l,$(LINK_ORDER),$(if $(filter $(l),$(SEES_nginx)),lib$(l).a))
MODULE_INCS := $(foreach l,$(SEES_nginx),$(ROOT)/src/$(l))
MODULE_SOURCES = $(shell find src/nginx -type f 2>/dev/null)

.PHONY: module nginx
module: $(MODULE) ## the nginx module (NGINX=debian, stable or asan)
nginx: $(NGINX_BIN_$(NGINX)) ## nginx itself, where it is built here (NGINX=stable or asan)

define module_rules # nginx flavor needs
$(MODULE_$(1)): $$(MODULE_SOURCES) $(foreach l,$(SEES_nginx),$$(call headers_of,$(l))) $(addprefix $(B)/$(2)/,$(MODULE_LIBS)) $(3) \
		tools/build-module.sh $(WASMTIME_READY)
	@SLUICE_INCS="$(MODULE_INCS)" FLAVOR=$(2) LIBS="$(MODULE_LIBS)" tools/build-module.sh $(1) $$@
endef
$(eval $(call module_rules,debian,release,$(B)/deps/.packages-nginx))
$(eval $(call module_rules,stable,release,$(NGINX_BIN_stable)))
$(eval $(call module_rules,asan,asan,$(NGINX_BIN_asan)))

$(NGINX_BIN_stable) $(NGINX_BIN_asan): $(NGINX_SOURCES) tools/nginx-options.sh
	@tools/build-nginx.sh $(notdir $(patsubst %/sbin/nginx,%,$@))
