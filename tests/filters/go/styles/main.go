// Filters as people write them with the Go SDK, in one module: the JSON configuration says which one a plugin is.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/properties"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"
)

func main() {}

func init() {
	proxywasm.SetVMContext(&vm{})
}

type vm struct {
	types.DefaultVMContext
	greeting string
}

func (v *vm) OnVMStart(int) types.OnVMStartStatus {
	text, err := proxywasm.GetVMConfiguration()
	if err != nil && !errors.Is(err, types.ErrorStatusNotFound) {
		return types.OnVMStartStatusFailed
	}
	v.greeting = string(text)
	return types.OnVMStartStatusOK
}

func (v *vm) NewPluginContext(id uint32) types.PluginContext {
	return &plugin{vm: v, id: id}
}

type config struct {
	Filter   string   `json:"filter"`
	Required []string `json:"required"`
	Upstream string   `json:"upstream"`
	Count    int      `json:"count"`
	Queue    string   `json:"queue"`
}

type plugin struct {
	types.DefaultPluginContext
	vm       *vm
	id       uint32
	config   config
	queue    uint32
	waiting  []uint32
	answered int
}

func (p *plugin) OnPluginStart(size int) types.OnPluginStartStatus {
	text, err := proxywasm.GetPluginConfiguration()
	if err != nil || json.Unmarshal(text, &p.config) != nil {
		proxywasm.LogCriticalf("bad configuration of %d bytes: %v", size, err)
		return types.OnPluginStartStatusFailed
	}
	switch p.config.Filter {
	case "receiver":
		p.queue, err = proxywasm.RegisterSharedQueue(p.config.Queue)
	case "call_on_tick", "postpone":
		err = proxywasm.SetTickPeriodMilliSeconds(50)
	}
	if err != nil {
		proxywasm.LogErrorf("start of %s: %v", p.config.Filter, err)
		return types.OnPluginStartStatusFailed
	}
	return types.OnPluginStartStatusOK
}

func (p *plugin) OnTick() {
	if p.config.Filter == "call_on_tick" {
		headers := [][2]string{{":method", "GET"}, {":authority", "tick"}, {":path", "/headers?x-tick=1"}, {"accept", "*/*"}}
		if _, err := proxywasm.DispatchHttpCall(p.config.Upstream, headers, nil, nil, 5000, p.onTickAnswer); err != nil {
			proxywasm.LogErrorf("dispatch from the tick: %v", err)
		}
		return
	}
	for _, id := range p.waiting {
		if err := proxywasm.SetEffectiveContext(id); err != nil {
			continue // its client has gone
		}
		if err := proxywasm.ResumeHttpRequest(); err != nil {
			proxywasm.LogErrorf("resume: %v", err)
		}
	}
	p.waiting = nil
}

func (p *plugin) onTickAnswer(numHeaders, bodySize, numTrailers int) {
	p.answered++
	proxywasm.LogInfof("answer %d to the tick: %d headers, %d bytes", p.answered, numHeaders, bodySize)
}

func (p *plugin) OnQueueReady(id uint32) {
	item, err := proxywasm.DequeueSharedQueue(id)
	switch {
	case errors.Is(err, types.ErrorStatusEmpty):
	case err != nil:
		proxywasm.LogErrorf("dequeue: %v", err)
	default:
		proxywasm.LogInfof("received %s", item)
	}
}

func (p *plugin) NewHttpContext(id uint32) types.HttpContext {
	base := stream{id: id, plugin: p}
	switch p.config.Filter {
	case "sender":
		return &sender{stream: base}
	case "dispatches":
		return &dispatches{stream: base}
	case "json":
		return &validator{stream: base}
	case "postpone":
		return &postpone{stream: base}
	case "properties":
		return &props{stream: base}
	case "kong":
		return &kong{stream: base}
	}
	return &base
}

type stream struct {
	types.DefaultHttpContext
	id     uint32
	plugin *plugin
}

// ---- sender: what it sees goes to a queue that another filter reads ----

type sender struct{ stream }

func (s *sender) OnHttpRequestHeaders(int, bool) types.Action {
	queue, err := proxywasm.ResolveSharedQueue("", s.plugin.config.Queue)
	if err != nil {
		proxywasm.LogErrorf("resolve: %v", err)
		return types.ActionContinue
	}
	headers, err := proxywasm.GetHttpRequestHeaders()
	if err != nil {
		panic(err)
	}
	for _, h := range headers {
		if !strings.HasPrefix(h[0], "x-") {
			continue
		}
		if err := proxywasm.EnqueueSharedQueue(queue, []byte(h[0]+"="+h[1])); err != nil {
			proxywasm.LogErrorf("enqueue: %v", err)
		}
	}
	return types.ActionContinue
}

// ---- dispatches: the response waits for several calls at once ----

type dispatches struct {
	stream
	left, bytes int
}

func (d *dispatches) OnHttpResponseHeaders(int, bool) types.Action {
	headers := [][2]string{{":method", "GET"}, {":authority", "many"}, {":path", "/bytes/100"}}
	for range d.plugin.config.Count {
		if _, err := proxywasm.DispatchHttpCall(d.plugin.config.Upstream, headers, nil, nil, 5000, d.one); err != nil {
			panic(err)
		}
		d.left++
	}
	return types.ActionPause
}

func (d *dispatches) one(_, bodySize, _ int) {
	d.left--
	d.bytes += bodySize
	if d.left > 0 {
		return
	}
	if err := proxywasm.AddHttpResponseHeader("x-total", fmt.Sprint(d.bytes)); err != nil {
		panic(err)
	}
	if err := proxywasm.ResumeHttpResponse(); err != nil {
		panic(err)
	}
}

// ---- json: only bodies with certain members pass ----

type validator struct {
	stream
	total int
}

func refuse(status uint32, text string) types.Action {
	if err := proxywasm.SendHttpResponse(status, [][2]string{{"content-type", "text/plain"}}, []byte(text), -1); err != nil {
		panic(err)
	}
	return types.ActionPause
}

func (v *validator) OnHttpRequestHeaders(_ int, endOfStream bool) types.Action {
	kind, err := proxywasm.GetHttpRequestHeader("content-type")
	if err != nil || kind != "application/json" {
		return refuse(415, "content-type must be application/json\n")
	}
	if endOfStream {
		return refuse(400, "a body is needed\n")
	}
	return types.ActionContinue
}

func (v *validator) OnHttpRequestBody(size int, endOfStream bool) types.Action {
	if !endOfStream {
		return types.ActionPause
	}
	body, err := proxywasm.GetHttpRequestBody(0, size)
	if err != nil {
		return refuse(500, "no body\n")
	}
	var document map[string]any
	if json.Unmarshal(body, &document) != nil {
		return refuse(400, "not an object of JSON\n")
	}
	for _, name := range v.plugin.config.Required {
		if _, has := document[name]; !has {
			return refuse(400, "missing: "+name+"\n")
		}
	}
	return types.ActionContinue
}

// ---- postpone: each request waits for the next tick ----

type postpone struct{ stream }

func (s *postpone) OnHttpRequestHeaders(int, bool) types.Action {
	s.plugin.waiting = append(s.plugin.waiting, s.id)
	return types.ActionPause
}

// ---- properties: the SDK's typed readers ----

type props struct{ stream }

func show[T any](name string, read func() (T, error)) {
	value, err := read()
	text := fmt.Sprint(value)
	if err != nil {
		text = "error: " + err.Error()
	}
	if err := proxywasm.AddHttpResponseHeader("x-"+name, text); err != nil {
		panic(err)
	}
}

func (s *props) OnHttpResponseHeaders(int, bool) types.Action {
	show("path", properties.GetRequestPath)
	show("url-path", properties.GetRequestUrlPath)
	show("host", properties.GetRequestHost)
	show("scheme", properties.GetRequestScheme)
	show("method", properties.GetRequestMethod)
	show("protocol", properties.GetRequestProtocol)
	show("query", properties.GetRequestQuery)
	show("agent", properties.GetRequestUserAgent)
	show("size", properties.GetRequestSize)
	show("code", properties.GetResponseCode)
	show("source", properties.GetDownstreamRemoteAddress)
	show("source-port", properties.GetDownstreamRemotePort)
	show("headers", func() (string, error) {
		headers, err := properties.GetRequestHeaders()
		return headers["x-mine"], err
	})
	show("year", func() (bool, error) {
		at, err := properties.GetRequestTime()
		return at.Year() > 2020 && at.Year() < 2200, err
	})
	show("vm", func() (string, error) { return s.plugin.vm.greeting, nil })
	return types.ActionContinue
}

// ---- kong: what a gateway knows ----

type kong struct{ stream }

func (s *kong) OnHttpRequestHeaders(int, bool) types.Action {
	if err := proxywasm.SetProperty([]string{"kong", "ctx", "shared", "from-go"}, []byte("kept")); err != nil {
		proxywasm.LogErrorf("ctx.shared: %v", err)
	}
	return types.ActionContinue
}

func (s *kong) OnHttpResponseHeaders(int, bool) types.Action {
	for _, name := range []string{"route_name", "service_name", "route_id", "client.protocol", "ctx.shared.from-go", "nothing"} {
		path := append([]string{"kong"}, strings.Split(name, ".")...)
		show("kong-"+strings.ReplaceAll(name, ".", "-"), func() (string, error) {
			value, err := proxywasm.GetProperty(path)
			return string(value), err
		})
	}
	return types.ActionContinue
}
