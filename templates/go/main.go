// A filter that greets: every response gets the header x-greeting with the text of its configuration, {"my_greeting": "..."}. A configuration
// that is not such an object is refused, with the reason in the log.
package main

import (
	"errors"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"
)

// main is never called: the filter is a library, and its life begins with init.
func main() {}

func init() {
	proxywasm.SetVMContext(&vmContext{})
}

// vmContext is one per virtual machine, so one or more per worker process.
type vmContext struct {
	types.DefaultVMContext
}

func (*vmContext) NewPluginContext(contextID uint32) types.PluginContext {
	return &pluginContext{}
}

// pluginContext is one per place where the filter is configured.
type pluginContext struct {
	types.DefaultPluginContext
	greeting string
}

func (p *pluginContext) OnPluginStart(configurationSize int) types.OnPluginStartStatus {
	text, err := proxywasm.GetPluginConfiguration()
	if err != nil && !errors.Is(err, types.ErrorStatusNotFound) { // not found: there is none
		proxywasm.LogErrorf("configuration cannot be read: %v", err)
		return types.OnPluginStartStatusFailed
	}
	p.greeting, err = parseGreeting(text)
	if err != nil {
		proxywasm.LogErrorf("configuration refused: %v", err)
		return types.OnPluginStartStatusFailed
	}
	return types.OnPluginStartStatusOK
}

func (p *pluginContext) NewHttpContext(contextID uint32) types.HttpContext {
	return &httpContext{greeting: p.greeting}
}

// httpContext is one per request.
type httpContext struct {
	types.DefaultHttpContext
	greeting string
}

func (h *httpContext) OnHttpResponseHeaders(numHeaders int, endOfStream bool) types.Action {
	if err := proxywasm.ReplaceHttpResponseHeader("X-Greeting", h.greeting); err != nil {
		proxywasm.LogErrorf("x-greeting cannot be set: %v", err)
	}
	return types.ActionContinue
}
