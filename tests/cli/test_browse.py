"""`cas browse` as a process: its address, runs that others commit meanwhile, its end, and the missing extra."""

import json
import os
import re
import signal
import stat
import sys
import urllib.request

import pytest

pytest.importorskip("starlette", reason="the extra `browse` is not installed")
pytest.importorskip("uvicorn", reason="the extra `browse` is not installed")
pytest.importorskip("jinja2", reason="the extra `browse` is not installed")

URL = re.compile(r"http://127\.0\.0\.1:(\d+)/([\w-]{22})/")


def get(url):
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310  http, as the test wrote it
        return answer.read().decode()


@pytest.fixture
def browse(spawn):
    """Starts `cas browse`; every process has ended when the test ends."""
    started = []

    def start(*words, **options):
        process = spawn("browse", *words, text=True, **options)
        started.append(process)
        return process, process.stdout.readline()

    yield start
    for process in started:
        process.kill()
        process.communicate()


def end(process, number):
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_browse_prints_its_address_serves_and_ends_cleanly(store, commit, browse, number):
    commit("abc123")
    process, line = browse("--no-open")
    assert URL.fullmatch(line.strip())
    assert "abc123" in get(line.strip())
    assert end(process, number) == (0, "", "Whoever has this address may read the store. Ctrl-C ends it.\n")
    with pytest.raises(OSError, match="refused"):
        get(line.strip())


def test_browse_json_is_one_line(store, browse):
    process, line = browse("--json")
    told = json.loads(line)
    port, _ = URL.fullmatch(told["url"]).groups()
    assert told == {"event": "serving", "url": told["url"], "host": "127.0.0.1", "port": int(port)}
    assert end(process, signal.SIGINT) == (0, "", "")


def test_browse_shows_runs_that_others_commit_meanwhile(store, commit, browse):
    commit("before")
    process, line = browse("--no-open", "--quiet")
    assert "meanwhile" not in get(line.strip() + "?where=&sort=net_pnl")
    commit("meanwhile", content="x\n1\n")
    assert "meanwhile" in get(line.strip() + "?where=&sort=net_pnl")
    assert "meanwhile" in get(line.strip() + "run?ref=latest")
    assert end(process, signal.SIGINT)[0] == 0


def test_browse_changes_nothing_in_the_store(store, commit, browse, place):
    commit("abc123")
    data = place / ".cas" / "data.mdb"
    before = data.read_bytes()
    process, line = browse("--no-open")
    for page in ("", "run?ref=abc123", "export", "branches", "raw?ref=abc123&name=trades.csv"):
        get(line.strip() + page)
    end(process, signal.SIGINT)
    assert data.read_bytes() == before


def test_browse_takes_the_port_it_is_given_and_refuses_one_in_use(store, browse):
    first, line = browse("--json")
    port = str(json.loads(line)["port"])
    second, nothing = browse("--port", port, "--json")
    _, err = second.communicate(timeout=60)
    assert nothing == ""
    assert second.returncode == 4
    told = json.loads(err)
    assert (told["kind"], f"127.0.0.1:{port}" in told["error"]) == ("invalid_input", True)
    end(first, signal.SIGINT)
    third, line = browse("--port", port, "--json")
    assert json.loads(line)["port"] == int(port)
    end(third, signal.SIGINT)


def test_browse_warns_when_other_machines_can_reach_it(store, browse):
    process, line = browse("--host", "0.0.0.0", "--no-open")  # noqa: S104
    port = re.fullmatch(r"http://0\.0\.0\.0:(\d+)/[\w-]{22}/\n", line)[1]
    assert "No runs yet" in get(line.strip().replace("0.0.0.0", "127.0.0.1"))  # noqa: S104
    assert int(port)
    code, _, err = end(process, signal.SIGINT)
    assert code == 0
    assert err.startswith("warning: other machines can reach this address")


def test_browse_without_a_store_says_so(cas):
    assert cas("browse").code == 3


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "jinja2"])
def test_browse_without_the_extra_names_it(store, monkeypatch, package):
    for name in [
        name for name in sys.modules if name.partition(".")[0] == package or name.startswith("cli.browse")
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    ended = store("browse")
    assert ended.code == 4
    assert f"the package {package} is not installed" in ended.err
    assert "pip install 'cas-gitexport[browse]'" in ended.err


def test_browse_opens_a_browser_without_showing_the_token_to_other_users(store, browse, place):
    program = place / "browser"
    pipe = place / "told"
    os.mkfifo(pipe)
    program.write_text(
        f"#!{sys.executable}\n"
        "import os, sys\n"
        "path = sys.argv[-1].removeprefix('file://')\n"
        f"told = open({str(pipe)!r}, 'w')\n"
        "told.write(f'{sys.argv[1:]}\\n{oct(os.stat(path).st_mode)}\\n{open(path).read()}')\n"
    )
    program.chmod(0o700)
    process, line = browse("--open", env={**os.environ, "BROWSER": f"{program} %s"})
    words, mode, content = pipe.read_text().split("\n", 2)
    _, token = URL.fullmatch(line.strip()).groups()
    assert token not in words
    assert stat.S_IMODE(int(mode, 8)) == 0o600
    assert line.strip() in content
    folder = re.search(r"file://(/[^']*)/open\.html", words)[1]
    assert end(process, signal.SIGINT)[0] == 0
    assert not os.path.exists(folder)  # noqa: PTH110
