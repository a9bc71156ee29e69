"""Configurations of the probe filter (tests/filters/probe.c)."""

from .nginx import filter_path, quote


def module(name="probe", config=None):
    return f"module {name} {filter_path('probe')}{' ' + quote(config) if config else ''};"


def use(*lines, name="probe"):
    return f"proxy_wasm {name} {quote(chr(10).join(lines))};"


# The lines of the request header x-do run in this stream.
EXEC = "request_headers: exec x-do"
# Whatever a stream waits for goes on at the next tick.
TICKS = ("configure: tick 30", "tick: resume")


def do(*lines):
    return [("x-do", ";".join(lines))]
