import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from support import http1, http2  # noqa: E402
from support.nginx import FLAVOR, Nginx  # noqa: E402
from support.upstream import Upstream  # noqa: E402


# What is about the command line, documents and instruction counts is not told more by a sanitized nginx.
if FLAVOR == "asan":
    collect_ignore = ["test_cli_bad_input.py", "test_docs.py", "test_routes_explain.py", "test_instruction_counts.py"]


@pytest.fixture(scope="session")
def upstream_server():
    server = Upstream()
    yield server
    server.stop()


@pytest.fixture
def upstream(upstream_server):
    upstream_server.forget()
    return upstream_server


@pytest.fixture
def nginx(tmp_path):
    """An Nginx that is not started yet; stopped and checked at the end."""
    server = Nginx(tmp_path)
    yield server
    server.stop()


@pytest.fixture(params=["http1", "http2"])
def client(request):
    """The module with which a test speaks; every test that takes it runs once for each protocol."""
    return http1 if request.param == "http1" else http2
