// The behaviours of tests/filters/README.md, with the Go SDK and the standard compiler.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"
)

func main() {}

func init() {
	proxywasm.SetVMContext(&vm{})
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func value[T any](v T, err error) T {
	must(err)
	return v
}

// present is the value, or "" where there is none.
func present(v string, err error) string {
	if errors.Is(err, types.ErrorStatusNotFound) {
		return ""
	}
	return value(v, err)
}

func configuration(text []byte, err error) string {
	return present(string(text), err)
}

type vm struct {
	types.DefaultVMContext
}

func (*vm) OnVMStart(int) types.OnVMStartStatus {
	proxywasm.LogInfof("vm [%s]", configuration(proxywasm.GetVMConfiguration()))
	return types.OnVMStartStatusOK
}

func (*vm) NewPluginContext(uint32) types.PluginContext {
	return &plugin{}
}

type plugin struct {
	types.DefaultPluginContext
	name      string
	queue     uint32
	waiting   []uint32
	counter   proxywasm.MetricCounter
	gauge     proxywasm.MetricGauge
	histogram proxywasm.MetricHistogram
}

func (p *plugin) OnPluginStart(int) types.OnPluginStartStatus {
	p.name = configuration(proxywasm.GetPluginConfiguration())
	proxywasm.LogInfof("configured [%s]", p.name)
	if p.name == "refuse" {
		return types.OnPluginStartStatusFailed
	}
	p.queue = value(proxywasm.RegisterSharedQueue("matrix-" + p.name))
	p.counter = proxywasm.DefineCounterMetric("matrix." + p.name + ".counter")
	p.gauge = proxywasm.DefineGaugeMetric("matrix." + p.name + ".gauge")
	p.histogram = proxywasm.DefineHistogramMetric("matrix." + p.name + ".histogram")
	must(proxywasm.SetTickPeriodMilliSeconds(20))
	return types.OnPluginStartStatusOK
}

func (p *plugin) OnTick() {
	waiting := p.waiting
	p.waiting = nil
	for _, id := range waiting {
		must(proxywasm.SetEffectiveContext(id))
		must(proxywasm.ReplaceHttpRequestHeader("x-ticked", "yes"))
		must(proxywasm.ResumeHttpRequest())
	}
}

func (p *plugin) OnQueueReady(queue uint32) {
	for {
		item, err := proxywasm.DequeueSharedQueue(queue)
		if errors.Is(err, types.ErrorStatusEmpty) {
			break
		}
		must(err)
		proxywasm.LogInfof("dequeued %s", item)
	}
	proxywasm.LogInfo("queue empty")
}

func (p *plugin) NewHttpContext(id uint32) types.HttpContext {
	return &stream{id: id, plugin: p}
}

type stream struct {
	types.DefaultHttpContext
	id        uint32
	plugin    *plugin
	behaviour string
	note      string
	noted     bool
}

func (s *stream) remember(note string) {
	s.note, s.noted = note, true
}

func (s *stream) reply(status uint32, body string) {
	must(proxywasm.SendHttpResponse(status, [][2]string{{"x-reply", "yes"}}, []byte(body+":"+s.plugin.name), -1))
}

func (s *stream) call(upstream, path string, timeout uint32) error {
	headers := [][2]string{{":method", "POST"}, {":path", path}, {":authority", "origin"}, {"x-from", "guest"}}
	_, err := proxywasm.DispatchHttpCall(upstream, headers, []byte("ping"), nil, timeout, s.answered)
	return err
}

func (s *stream) answered(numHeaders, bodySize, numTrailers int) {
	outcome := "failed"
	if numHeaders > 0 {
		status, answer := "", ""
		for _, h := range value(proxywasm.GetHttpCallResponseHeaders()) {
			switch h[0] {
			case ":status":
				status = h[1]
			case "x-answer":
				answer = h[1]
			}
		}
		body := value(proxywasm.GetHttpCallResponseBody(0, bodySize))
		outcome = fmt.Sprintf("%s,%s,%s", status, answer, strings.TrimSpace(string(body)))
	}
	switch s.behaviour {
	case "callreply":
		s.reply(401, outcome)
	case "callresponse":
		must(proxywasm.ReplaceHttpResponseHeader("x-call", outcome))
		must(proxywasm.ResumeHttpResponse())
	default:
		must(proxywasm.ReplaceHttpRequestHeader("x-call", outcome))
		must(proxywasm.ResumeHttpRequest())
	}
}

func (s *stream) shared() string {
	key := "matrix-" + s.plugin.name
	before := "none"
	if v, _, err := proxywasm.GetSharedData(key); err == nil {
		before = string(v)
	} else if !errors.Is(err, types.ErrorStatusNotFound) {
		panic(err)
	}
	must(proxywasm.SetSharedData(key, []byte("1"), 0))
	_, cas, err := proxywasm.GetSharedData(key)
	must(err)
	wrong := "unexpected"
	if errors.Is(proxywasm.SetSharedData(key, []byte("x"), cas+1), types.ErrorStatusCasMismatch) {
		wrong = "mismatch"
	}
	must(proxywasm.SetSharedData(key, []byte("2"), cas))
	after, _, err := proxywasm.GetSharedData(key)
	must(err)
	return before + "," + wrong + "," + string(after)
}

func (s *stream) metrics() string {
	p := s.plugin
	p.counter.Increment(2)
	p.gauge.Add(7)
	p.histogram.Record(5)
	return fmt.Sprintf("%d,%d", p.counter.Value(), p.gauge.Value())
}

func property(path ...string) string {
	return string(value(proxywasm.GetProperty(path)))
}

func (s *stream) properties() string {
	must(proxywasm.SetProperty([]string{"matrix", "own"}, []byte("kept")))
	absent := "none"
	if _, err := proxywasm.GetProperty([]string{"matrix", "absent"}); err == nil {
		absent = "some"
	}
	root := configuration(proxywasm.GetProperty([]string{"plugin_root_id"}))
	return fmt.Sprintf("%s,%s,%s,[%s]", property("request", "path"), property("matrix", "own"), absent, root)
}

func foreign() string {
	if _, err := proxywasm.CallForeignFunction("matrix_unknown", []byte("x")); errors.Is(err, types.ErrorStatusNotFound) {
		return "not found"
	}
	return "unexpected"
}

func logLevels() {
	proxywasm.LogTrace("level trace")
	proxywasm.LogDebug("level debug")
	proxywasm.LogInfo("level info")
	proxywasm.LogWarn("level warn")
	proxywasm.LogError("level error")
	proxywasm.LogCritical("level critical")
}

func (s *stream) changeHeaders() {
	in := value(proxywasm.GetHttpRequestHeader("x-in"))
	must(proxywasm.ReplaceHttpRequestHeader("x-in", in+"-changed"))
	must(proxywasm.AddHttpRequestHeader("x-multi", "one"))
	must(proxywasm.AddHttpRequestHeader("x-multi", "two"))
	must(proxywasm.RemoveHttpRequestHeader("x-gone"))
	gone := "still there"
	if _, err := proxywasm.GetHttpRequestHeader("x-gone"); errors.Is(err, types.ErrorStatusNotFound) {
		gone = "gone"
	}
	s.remember(in + "," + gone)
}

func changeMap() {
	count := 0
	var kept [][2]string
	for _, pair := range value(proxywasm.GetHttpRequestHeaders()) {
		if strings.HasPrefix(pair[0], "x-") {
			count++
		}
		if pair[0] != "x-gone" {
			kept = append(kept, pair)
		}
	}
	must(proxywasm.ReplaceHttpRequestHeaders(append(kept, [2]string{"x-map", fmt.Sprint(count)})))
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (s *stream) OnHttpRequestHeaders(_ int, endOfStream bool) types.Action {
	proxywasm.LogInfof("request headers end=%s", yes(endOfStream))
	s.behaviour = present(proxywasm.GetHttpRequestHeader("x-do"))
	switch s.behaviour {
	case "headers":
		s.changeHeaders()
	case "map":
		changeMap()
	case "path":
		must(proxywasm.ReplaceHttpRequestHeader(":path", "/echo/rewritten?by=guest"))
	case "body", "append":
		must(proxywasm.RemoveHttpRequestHeader("content-length"))
	case "reply":
		s.reply(403, "denied")
		return types.ActionPause
	case "call", "callreply":
		must(s.call("origin", "/headers?x-answer=42", 5000))
		return types.ActionPause
	case "calltimeout":
		must(s.call("origin", "/hang", 100))
		return types.ActionPause
	case "callrefused":
		s.remember("accepted")
		if s.call("nowhere", "/", 1000) != nil {
			s.remember("refused")
		}
	case "shared":
		s.remember(s.shared())
	case "queue":
		must(proxywasm.EnqueueSharedQueue(s.plugin.queue, []byte("item-"+value(proxywasm.GetHttpRequestHeader("x-in")))))
	case "metric":
		s.remember(s.metrics())
	case "property":
		s.remember(s.properties())
	case "foreign":
		s.remember(foreign())
	case "log":
		logLevels()
	case "print":
		fmt.Println("to stdout")
		fmt.Fprintln(os.Stderr, "to stderr")
	case "time":
		s.remember(fmt.Sprint(time.Now().Unix()))
	case "tick":
		s.plugin.waiting = append(s.plugin.waiting, s.id)
		return types.ActionPause
	case "panic":
		panic("as asked")
	}
	return types.ActionContinue
}

func (s *stream) OnHttpRequestBody(size int, endOfStream bool) types.Action {
	switch s.behaviour {
	case "body":
		if !endOfStream {
			return types.ActionPause
		}
		body := value(proxywasm.GetHttpRequestBody(0, size))
		must(proxywasm.ReplaceHttpRequestBody([]byte("<" + string(body) + ">")))
	case "append":
		if endOfStream {
			must(proxywasm.AppendHttpRequestBody([]byte("+end")))
		}
	case "replybody":
		s.reply(413, "body")
		return types.ActionPause
	}
	return types.ActionContinue
}

func (s *stream) OnHttpRequestTrailers(int) types.Action {
	if s.behaviour == "trailers" {
		v := present(proxywasm.GetHttpRequestTrailer("x-trailer"))
		must(proxywasm.ReplaceHttpRequestTrailer("x-trailer", v+"-changed"))
		must(proxywasm.AddHttpRequestTrailer("x-added", "guest"))
	}
	return types.ActionContinue
}

func (s *stream) OnHttpResponseHeaders(_ int, endOfStream bool) types.Action {
	proxywasm.LogInfof("response headers end=%s", yes(endOfStream))
	must(proxywasm.ReplaceHttpResponseHeader("x-filter", s.plugin.name))
	if s.noted {
		must(proxywasm.ReplaceHttpResponseHeader("x-note", s.note))
	}
	switch s.behaviour {
	case "stream", "rebuild":
		must(proxywasm.RemoveHttpResponseHeader("content-length"))
	case "replylate":
		s.reply(502, "late")
		return types.ActionPause
	case "callresponse":
		must(s.call("origin", "/headers?x-answer=42", 5000))
		return types.ActionPause
	}
	return types.ActionContinue
}

func (s *stream) OnHttpResponseBody(size int, endOfStream bool) types.Action {
	switch s.behaviour {
	case "stream":
		mark := "|"
		if endOfStream {
			mark = "|end"
		}
		must(proxywasm.AppendHttpResponseBody([]byte(mark)))
	case "rebuild":
		if !endOfStream {
			return types.ActionPause
		}
		body := value(proxywasm.GetHttpResponseBody(0, size))
		must(proxywasm.ReplaceHttpResponseBody([]byte(fmt.Sprintf("length=%d", len(body)))))
	}
	return types.ActionContinue
}

func (s *stream) OnHttpResponseTrailers(int) types.Action {
	if s.behaviour == "trailers" {
		v := present(proxywasm.GetHttpResponseTrailer("x-trailer"))
		must(proxywasm.ReplaceHttpResponseTrailer("x-trailer", v+"-changed"))
		must(proxywasm.AddHttpResponseTrailer("x-added", "guest"))
	}
	return types.ActionContinue
}

func (s *stream) OnHttpStreamDone() {
	proxywasm.LogInfof("log [%s] status=%s", s.behaviour, present(proxywasm.GetHttpResponseHeader(":status")))
}
