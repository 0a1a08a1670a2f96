"""Who is answered: methods, hosts, sites, the token; and the headers of every answer."""

import pytest

from cli.browse.guard import CONTENT_POLICY, Guard, host_name, new_token

OWN_PAGES = ("", "run?ref=first", "file?ref=first&name=notes.txt", "raw?ref=first&name=notes.txt", "branches")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:9", "localhost", "LOCALHOST:80", "[::1]:8000", "127.0.0.2"]
)
def test_host_of_this_machine_is_answered(visit, host):
    assert visit(headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:80",
        "localhost.evil.example",
        "10.0.0.1",
        "",
        "127.0.0.1.evil.example",
        "[::",
    ],
)
def test_host_that_a_foreign_name_may_stand_behind_is_refused(visit, host):
    answer = visit(headers={"Host": host})
    assert answer.status == 421
    assert "first" not in answer.text


def test_host_of_the_network_is_answered_when_it_was_asked_for():
    guard = Guard(None, new_token(), "0.0.0.0")  # noqa: S104
    assert guard._is_own_host("192.0.2.7:8000")
    assert not guard._is_own_host("evil.example")
    assert Guard(None, new_token(), "box.lan")._is_own_host("box.lan:80")


@pytest.mark.parametrize(
    ("text", "name"),
    [("a.b:1", "a.b"), ("a.b", "a.b"), ("[::1]:1", "::1"), ("[::1]", "::1"), ("", ""), (":1", "")],
)
def test_host_name_leaves_the_port_out(text, name):
    assert host_name(text) == name


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_method_that_does_not_read_is_refused(visit, method):
    answer = visit(method=method)
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD"


def test_head_is_answered_without_a_body(visit):
    answer = visit(method="HEAD")
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    "path", ["/", "/favicon.ico", "/run?ref=first", "/{wrong}/", "/{token}x/", "/{short}/", "//{token}/"]
)
def test_path_without_the_token_is_refused(visit, path):
    token = visit.server.token
    answer = visit(path=path.format(token=token, short=token[:-1], wrong=new_token()))
    assert answer.status == 403
    assert "first" not in answer.text


def test_token_alone_leads_to_the_list(visit):
    answer = visit(path=visit.prefix)
    assert (answer.status, answer.headers["location"]) == (307, f"{visit.prefix}/")


def test_token_is_another_one_each_time():
    assert len({new_token() for _ in range(100)}) == 100
    assert len(new_token()) == 22  # 128 bits


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_request_of_another_site_is_refused(visit, headers):
    assert visit(headers=headers).status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "style"},
        {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    ],
)
def test_request_of_a_person_or_of_the_pages_is_answered(visit, headers):
    assert visit(headers=headers).status == 200


def test_origin_of_the_page_itself_is_answered(visit):
    host = f"127.0.0.1:{visit.server.port}"
    assert visit(headers={"Host": host, "Origin": f"http://{host}"}).status == 200


@pytest.mark.parametrize("page", [*OWN_PAGES, "nothing", "?where=x", "run?ref=nothing", "assets/style.css"])
def test_answer_carries_the_headers(visit, page):
    headers = visit(path=f"{visit.prefix}/{page}").headers
    policy = headers["content-security-policy"]
    assert policy == (CONTENT_POLICY if not page.startswith("raw") else "default-src 'none'; sandbox")
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == ("no-cache" if page.startswith("assets") else "no-store")
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


def test_refusal_carries_the_headers_too(visit):
    for answer in (visit(path="/"), visit(method="POST"), visit(headers={"Host": "evil.example"})):
        assert answer.headers["content-security-policy"] == CONTENT_POLICY
        assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd",
        "/assets/../site.py",
        "/assets/%2e%2e/site.py",
        "/assets/..%2fsite.py",
        "/assets//etc/passwd",
        "/file?ref=first&name=../../../../etc/passwd",
        "/raw?ref=first&name=/etc/passwd",
        "/raw?ref=first&name=..%2f..%2fdata.mdb",
        "/raw?ref=../first&name=notes.txt",
        "/raw?ref=first&name=data.mdb",
    ],
)
def test_path_outside_of_the_store_is_not_found(visit, path):
    answer = visit(path=visit.prefix + path)
    assert answer.status == 404
    assert "root:" not in answer.text
    assert "def new_application" not in answer.text
