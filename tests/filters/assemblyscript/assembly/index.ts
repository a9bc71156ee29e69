// The behaviours of tests/filters/README.md, with proxy-runtime. Where its classes cannot, its raw imports are used; whole maps can only be
// read with it, so "map" is missing here.
export * from "@solo-io/proxy-runtime/proxy";
import {
  Context, Counter, FilterDataStatusValues, FilterHeadersStatusValues, FilterTrailersStatusValues, Gauge, GrpcStatusValues, HeaderPair,
  Headers, Histogram, LogLevelValues, RootContext, WasmResultValues, continue_request, continue_response, log, registerRootContext,
  send_local_response, stream_context,
} from "@solo-io/proxy-runtime";
import {
  BufferTypeValues, Reference, enqueue_shared_queue, get_buffer_bytes, get_current_time_nanoseconds, get_property,
  proxy_set_effective_context, record_metric, register_shared_queue, set_property, set_tick_period_milliseconds,
} from "@solo-io/proxy-runtime/runtime";
import * as host from "@solo-io/proxy-runtime/imports";

// @ts-ignore: decorator
@external("env", "proxy_set_buffer_bytes")
declare function proxy_set_buffer_bytes(buffer: u32, start: u32, size: u32, data: usize, dataSize: usize): u32;

const WHOLE: u32 = 0x7fffffff;

function bytes(text: string): ArrayBuffer {
  return String.UTF8.encode(text);
}

function info(message: string): void {
  log(LogLevelValues.info, message);
}

function must(result: u32): void {
  if (result != WasmResultValues.Ok) throw new Error("status " + result.toString());
}

function pair(name: string, value: string): HeaderPair {
  return new HeaderPair(bytes(name), bytes(value));
}

function setBody(buffer: u32, start: u32, size: u32, text: string): void {
  const data = bytes(text);
  must(proxy_set_buffer_bytes(buffer, start, size, changetype<usize>(data), data.byteLength));
}

function buffer(which: u32): string {
  return String.UTF8.decode(get_buffer_bytes(which, 0, WHOLE));
}

function yes(b: bool): string {
  return b ? "yes" : "no";
}

// ---- shared data: the classes of this version pass the arguments of get and set the wrong way round ----

class Value {
  text: string = "";
  cas: u32 = 0;
  status: u32 = 0;
}

function sharedGet(key: string): Value {
  const name = bytes(key);
  const data = new Reference<usize>(), size = new Reference<usize>(), cas = new Reference<u32>();
  const value = new Value();
  value.status = host.proxy_get_shared_data(changetype<usize>(name), name.byteLength, data.ptr(), size.ptr(), cas.ptr());
  if (value.status == WasmResultValues.Ok) {
    value.text = String.UTF8.decodeUnsafe(data.data, size.data);
    value.cas = cas.data;
  }
  return value;
}

function sharedSet(key: string, text: string, cas: u32): u32 {
  const name = bytes(key), value = bytes(text);
  return host.proxy_set_shared_data(changetype<usize>(name), name.byteLength, changetype<usize>(value), value.byteLength, cas);
}

// ---- the root ----

class Root extends RootContext {
  name: string = "";
  queue: u32 = 0;
  counter: Counter | null = null;
  gauge: Gauge | null = null;
  histogram: Histogram | null = null;
  waiting: Array<u32> = new Array<u32>();

  onStart(size: usize): bool {
    info("vm [" + buffer(BufferTypeValues.VmConfiguration) + "]");
    return true;
  }

  onConfigure(size: u32): bool {
    if (size > 0 && !super.onConfigure(size)) return false;
    this.name = buffer(BufferTypeValues.PluginConfiguration);
    info("configured [" + this.name + "]");
    if (this.name == "refuse") return false;
    const token = new Reference<u32>();
    must(register_shared_queue("matrix-" + this.name, token.ptr() as u32));
    this.queue = token.data;
    this.counter = new Counter("matrix." + this.name + ".counter");
    this.gauge = new Gauge("matrix." + this.name + ".gauge");
    this.histogram = new Histogram("matrix." + this.name + ".histogram");
    set_tick_period_milliseconds(20);
    return true;
  }

  onTick(): void {
    const waiting = this.waiting;
    this.waiting = new Array<u32>();
    for (let i = 0; i < waiting.length; i++) {
      proxy_set_effective_context(waiting[i]);
      stream_context.headers.request.replace("x-ticked", "yes");
      must(continue_request());
    }
  }

  onQueueReady(token: u32): void {
    const data = new Reference<usize>(), size = new Reference<usize>();
    while (host.proxy_dequeue_shared_queue(token, data.ptr(), size.ptr()) == WasmResultValues.Ok) {
      info("dequeued " + String.UTF8.decodeUnsafe(data.data, size.data));
    }
    info("queue empty");
  }

  createContext(id: u32): Context {
    return new Stream(id, this);
  }
}

// ---- a request ----

function answered(context: Context, headers: u32, size: usize, trailers: u32): void {
  const stream = context as Stream;
  let outcome = "failed";
  if (headers > 0) {
    const from = stream_context.headers.http_callback;
    outcome = from.get(":status") + "," + from.get("x-answer") + "," + buffer(BufferTypeValues.HttpCallResponseBody).trim();
  }
  if (stream.behaviour == "callreply") {
    stream.reply(401, outcome);
  } else if (stream.behaviour == "callresponse") {
    stream_context.headers.response.replace("x-call", outcome);
    must(continue_response());
  } else {
    stream_context.headers.request.replace("x-call", outcome);
    must(continue_request());
  }
}

class Stream extends Context {
  root: Root;
  behaviour: string = "";
  note: string = "";
  noted: bool = false;

  constructor(id: u32, root: Root) {
    super(id, root);
    this.root = root;
  }

  remember(note: string): void {
    this.note = note;
    this.noted = true;
  }

  reply(status: u32, text: string): void {
    must(send_local_response(status, "", bytes(text + ":" + this.root.name), [pair("x-reply", "yes")], -1 as GrpcStatusValues));
  }

  call(upstream: string, path: string, timeout: u32): u32 {
    const headers: Headers = [pair(":method", "POST"), pair(":path", path), pair(":authority", "origin"), pair("x-from", "guest")];
    return this.root.httpCall(upstream, headers, bytes("ping"), [], timeout, this, answered);
  }

  shared(): string {
    const key = "matrix-" + this.root.name;
    const first = sharedGet(key);
    const before = first.status == WasmResultValues.NotFound ? "none" : first.text;
    must(sharedSet(key, "1", 0));
    const cas = sharedGet(key).cas;
    const wrong = sharedSet(key, "x", cas + 1) == WasmResultValues.CasMismatch ? "mismatch" : "unexpected";
    must(sharedSet(key, "2", cas));
    return before + "," + wrong + "," + sharedGet(key).text;
  }

  metrics(): string {
    const counter = this.root.counter!, gauge = this.root.gauge!, histogram = this.root.histogram!;
    must(counter.increment(2));
    must(gauge.record(gauge.metric_id, 7));
    must(record_metric(histogram.metric_id, 5));
    const value = new Reference<u64>();
    must(host.proxy_get_metric(counter.metric_id, value.ptr()));
    const counted = value.data;
    must(host.proxy_get_metric(gauge.metric_id, value.ptr()));
    return counted.toString() + "," + value.data.toString();
  }

  absent(path: string): string {
    const name = bytes(path);
    const data = new Reference<usize>(), size = new Reference<usize>();
    const status = host.proxy_get_property(changetype<usize>(name), name.byteLength, data.ptr(), size.ptr());
    return status == WasmResultValues.NotFound ? "none" : "some";
  }

  properties(): string {
    must(set_property("matrix\0own", bytes("kept")));
    const path = String.UTF8.decode(get_property("request\0path")), own = String.UTF8.decode(get_property("matrix\0own"));
    return path + "," + own + "," + this.absent("matrix\0absent") + ",[" + String.UTF8.decode(get_property("plugin_root_id")) + "]";
  }

  foreign(): string {
    const name = bytes("matrix_unknown"), data = new Reference<usize>(), size = new Reference<usize>();
    const status = host.proxy_call_foreign_function(changetype<usize>(name), name.byteLength, 0, 0, data.ptr(), size.ptr());
    return status == WasmResultValues.NotFound ? "not found" : "unexpected";
  }

  logLevels(): void {
    log(LogLevelValues.trace, "level trace");
    log(LogLevelValues.debug, "level debug");
    log(LogLevelValues.info, "level info");
    log(LogLevelValues.warn, "level warn");
    log(LogLevelValues.error, "level error");
    log(LogLevelValues.critical, "level critical");
  }

  changeHeaders(): void {
    const request = stream_context.headers.request;
    const value = request.get("x-in");
    request.replace("x-in", value + "-changed");
    request.add("x-multi", "one");
    request.add("x-multi", "two");
    request.remove("x-gone");
    this.remember(value + "," + (request.get("x-gone") == "" ? "gone" : "still there"));
  }

  onRequestHeaders(count: u32, end: bool): FilterHeadersStatusValues {
    info("request headers end=" + yes(end));
    const request = stream_context.headers.request;
    this.behaviour = request.get("x-do");
    const b = this.behaviour;
    if (b == "headers") this.changeHeaders();
    if (b == "path") request.replace(":path", "/echo/rewritten?by=guest");
    if (b == "body" || b == "append") request.remove("content-length");
    if (b == "callrefused") this.remember(this.call("nowhere", "/", 1000) == WasmResultValues.Ok ? "accepted" : "refused");
    if (b == "shared") this.remember(this.shared());
    if (b == "queue") must(enqueue_shared_queue(this.root.queue, bytes("item-" + request.get("x-in"))));
    if (b == "metric") this.remember(this.metrics());
    if (b == "property") this.remember(this.properties());
    if (b == "foreign") this.remember(this.foreign());
    if (b == "log") this.logLevels();
    if (b == "time") this.remember((get_current_time_nanoseconds() / 1000000000).toString());
    if (b == "panic") throw new Error("as asked");
    if (b == "reply") {
      this.reply(403, "denied");
      return FilterHeadersStatusValues.StopIteration;
    }
    if (b == "call" || b == "callreply") {
      must(this.call("origin", "/headers?x-answer=42", 5000));
      return FilterHeadersStatusValues.StopIteration;
    }
    if (b == "calltimeout") {
      must(this.call("origin", "/hang", 100));
      return FilterHeadersStatusValues.StopIteration;
    }
    if (b == "tick") {
      this.root.waiting.push(this.context_id);
      return FilterHeadersStatusValues.StopIteration;
    }
    return FilterHeadersStatusValues.Continue;
  }

  onRequestBody(size: usize, end: bool): FilterDataStatusValues {
    if (this.behaviour == "body") {
      if (!end) return FilterDataStatusValues.StopIterationAndBuffer;
      setBody(BufferTypeValues.HttpRequestBody, 0, size as u32, "<" + buffer(BufferTypeValues.HttpRequestBody) + ">");
    }
    if (this.behaviour == "append" && end) setBody(BufferTypeValues.HttpRequestBody, size as u32, 0, "+end");
    if (this.behaviour == "replybody") {
      this.reply(413, "body");
      return FilterDataStatusValues.StopIterationNoBuffer;
    }
    return FilterDataStatusValues.Continue;
  }

  onRequestTrailers(count: u32): FilterTrailersStatusValues {
    if (this.behaviour == "trailers") {
      const trailers = stream_context.trailers.request;
      trailers.replace("x-trailer", trailers.get("x-trailer") + "-changed");
      trailers.add("x-added", "guest");
    }
    return FilterTrailersStatusValues.Continue;
  }

  onResponseHeaders(count: u32, end: bool): FilterHeadersStatusValues {
    info("response headers end=" + yes(end));
    const response = stream_context.headers.response;
    response.replace("x-filter", this.root.name);
    if (this.noted) response.replace("x-note", this.note);
    if (this.behaviour == "stream" || this.behaviour == "rebuild") response.remove("content-length");
    if (this.behaviour == "replylate") {
      this.reply(502, "late");
      return FilterHeadersStatusValues.StopIteration;
    }
    if (this.behaviour == "callresponse") {
      must(this.call("origin", "/headers?x-answer=42", 5000));
      return FilterHeadersStatusValues.StopIteration;
    }
    return FilterHeadersStatusValues.Continue;
  }

  onResponseBody(size: usize, end: bool): FilterDataStatusValues {
    if (this.behaviour == "stream") setBody(BufferTypeValues.HttpResponseBody, size as u32, 0, end ? "|end" : "|");
    if (this.behaviour == "rebuild") {
      if (!end) return FilterDataStatusValues.StopIterationAndBuffer;
      const length = get_buffer_bytes(BufferTypeValues.HttpResponseBody, 0, WHOLE).byteLength;
      setBody(BufferTypeValues.HttpResponseBody, 0, size as u32, "length=" + length.toString());
    }
    return FilterDataStatusValues.Continue;
  }

  onResponseTrailers(count: u32): FilterTrailersStatusValues {
    if (this.behaviour == "trailers") {
      const trailers = stream_context.trailers.response;
      trailers.replace("x-trailer", trailers.get("x-trailer") + "-changed");
      trailers.add("x-added", "guest");
    }
    return FilterTrailersStatusValues.Continue;
  }

  onLog(): void {
    info("log [" + this.behaviour + "] status=" + stream_context.headers.response.get(":status"));
  }
}

registerRootContext((id: u32) => { return new Root(id); }, "");
registerRootContext((id: u32) => { return new Root(id); }, "matrix");
