"""What the tests of the page share: a store with ordinary and hostile runs, and a server that is asked over HTTP."""

from __future__ import annotations

import dataclasses
import html
import http.client
import re
from urllib.parse import urlencode

import pytest

from tests.store.stores import open_store

SCRIPT = "<script>document.title='ran'</script>"
IMAGE = '"><img src=x onerror="document.title=\'ran\'">'
HOSTILE_ID = f"evil{IMAGE}"
HOSTILE_FILES = {
    f"{SCRIPT}.log": f"{SCRIPT}\n<b>log</b>\n".encode(),
    f"{IMAGE}.py": f"x = '''\n{SCRIPT}\n'''\n".encode(),
    "equity_curve.csv": f"time,equity{SCRIPT}\n2024-01-01,1\n2024-01-02,2\n".encode(),
    "trades.csv": f"a,{SCRIPT}\n{IMAGE},1\n".encode(),
    "page.html": f"<html><body>{SCRIPT}</body></html>".encode(),
    "picture.svg": f'<svg xmlns="http://www.w3.org/2000/svg">{SCRIPT}</svg>'.encode(),
    "turned\u202e.txt": "abc\u202edef\x1b[31m\n".encode(),
}
STRATEGY = b"def decide(price):\n    return price > 100\n"


@dataclasses.dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self):
        return self.body.decode()

    @property
    def links(self):
        return [html.unescape(link) for link in re.findall(r'href="([^"]+)"', self.text)]

    @property
    def runs(self):
        """The correlation IDs of a list, in its order."""
        return re.findall(r'<th scope="row"><a href="[^"]+">([^<]+)</a>', self.text)


class Visitor:
    """Asks a server as a browser would, or as an attacker would."""

    def __init__(self, server):
        self.server = server
        self.prefix = f"/{server.token}"

    def __call__(self, page="", /, *, method="GET", path=None, headers=None, **parameters):
        query = urlencode(parameters, doseq=True)
        target = path or f"{self.prefix}/{page}" + (f"?{query}" if query else "")
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        try:
            connection.putrequest(method, target, skip_host=True)
            given = {"Host": f"127.0.0.1:{self.server.port}", **(headers or {})}
            for name, value in given.items():
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            lowered = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, lowered, answer.read())
        finally:
            connection.close()


@pytest.fixture(scope="session")
def serve():
    """Serves stores; every server has ended when the session ends, and none met an unforeseen error."""
    for package in ("starlette", "uvicorn", "jinja2", "pygments"):
        pytest.importorskip(package, reason="the extra `browse` is not installed")
    from cli.browse.server import Server

    servers, errors = [], []

    def start(store):
        server = Server(store, "127.0.0.1", 0, errors.append)
        server.start()
        servers.append(server)
        return Visitor(server)

    yield start
    for server in servers:
        server.stop()
    assert errors == []


def equity(count=120, start=10_000.0, growth=0.001):
    """An equity curve with a dip in the middle."""
    values = [start * (1 + growth * n) * (0.9 if count // 3 < n < count // 2 else 1) for n in range(count)]
    rows = (f"2024-{1 + n // 28 % 12:02}-{1 + n % 28:02},{value:.2f}\n" for n, value in enumerate(values))
    return ("Time,Equity\n" + "".join(rows)).encode()


def trades(count=30):
    """A table of trades whose PnL goes up and down."""
    rows = (f"{n},{(n * 7 % 13) - 6}.{n % 10}250000001,buy\n" for n in range(count))
    return ("Bar,PnL,Side\n" + "".join(rows)).encode()


def commit_run(store, correlation_id, **changes):
    """Commit a run with code, curve, trades, log and report."""
    number = len(correlation_id)
    arguments = {
        "workflow_id": "wf_rsi",
        "task_id": "t1",
        "prompt_hash": "7a8b9c0d1e2f",
        "files": {
            "strategy.py": STRATEGY,
            "equity_curve.csv": equity(),
            "trades.csv": trades(),
            "events.log": b"2024-01-01 BAR\n2024-01-02 FILL\n",
            "test_report.json": b'{"status": "passed"}\n',
        },
        "metadata": {
            "agent_version": "coder-v1.0",
            "market": {"symbol": "GOOG"},
            "test_metrics": {"net_pnl": 10.5 * number, "win_rate": 0.5},
        },
    }
    return store.commit_artifacts(correlation_id=correlation_id, **{**arguments, **changes})


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    """A store that no test changes: two revisions, a rollback, a bare run, a hostile one."""
    with open_store(tmp_path_factory.mktemp("shop")) as store:
        commit_run(store, "first")
        commit_run(
            store,
            "second",
            files={
                "strategy.py": STRATEGY.replace(b"100", b"200"),
                "equity_curve.csv": equity(growth=0.002),
                "trades.csv": trades(250),
            },
            metadata={"test_metrics": {"net_pnl": 400.0, "win_rate": 0.25, "sharpe": 1.5}},
        )
        commit_run(store, "first", files={"notes.txt": b"again\n"})
        commit_run(store, "bare", files={"notes.txt": b"nothing else\n"}, metadata={})
        commit_run(
            store,
            HOSTILE_ID,
            workflow_id=SCRIPT,
            task_id=IMAGE,
            files=HOSTILE_FILES,
            metadata={SCRIPT: SCRIPT, "test_metrics": {SCRIPT: 1.0, "note": IMAGE}},
        )
        store.revert_to_tag("corr_first", target_branch="main", reason=SCRIPT)
        yield store


@pytest.fixture(scope="session")
def visit(shop, serve):
    """Asks the server of the unchanged store."""
    return serve(shop)


@pytest.fixture
def own(tmp_path):
    """An empty store of the test's own."""
    with open_store(tmp_path) as store:
        yield store
