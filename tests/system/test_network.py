"""Proxies and certificates of the environment."""

import ssl

import pytest

from edge_router.system import network
from edge_router.system.network import (
    BadNetworkSetting,
    certificate_setting,
    is_loopback,
    problems,
    proxy_for,
)

PROXY = "http://proxy.example.org:3128"


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "a.localhost",
        "127.0.0.1",
        "127.8.9.1",
        "127.1",
        "2130706433",
        "::1",
        "::ffff:127.0.0.1",
        "0.0.0.0",
        "::",
    ],
)
def test_this_machine_is_never_asked_by_way_of_a_proxy(host):
    assert is_loopback(host)
    place = f"http://[{host}]:80/v1" if ":" in host else f"http://{host}:80/v1"
    assert proxy_for(place, {"HTTP_PROXY": PROXY, "ALL_PROXY": "socks4://x"}) is None


@pytest.mark.parametrize(
    "host",
    ["example.org", "localhost.example.org", "notlocalhost", "128.0.0.1", "10.0.0.1", "::2", "cafe", "127"],
)
def test_another_machine_is(host):
    assert not is_loopback(host)
    place = f"http://[{host}]/v1" if ":" in host else f"http://{host}/v1"
    assert proxy_for(place, {"HTTP_PROXY": PROXY}).url == PROXY


@pytest.mark.parametrize(
    ("url", "environ", "variable"),
    [
        ("http://a.org", {"HTTP_PROXY": PROXY}, "HTTP_PROXY"),
        ("https://a.org", {"HTTP_PROXY": PROXY}, None),
        ("https://a.org", {"HTTPS_PROXY": PROXY, "ALL_PROXY": "x"}, "HTTPS_PROXY"),
        ("https://a.org", {"https_proxy": PROXY, "HTTPS_PROXY": "x"}, "https_proxy"),
        ("https://a.org", {"https_proxy": "", "HTTPS_PROXY": PROXY}, None),
        ("https://a.org", {"ALL_PROXY": PROXY}, "ALL_PROXY"),
        ("https://a.org", {"all_proxy": PROXY}, "all_proxy"),
        ("https://a.org", {"ALL_PROXY": " "}, None),
        ("http://a.org", {"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"}, None),
        ("https://a.org", {}, None),
    ],
)
def test_which_variable_counts(url, environ, variable):
    found = proxy_for(url, environ)
    assert (found and found.variable) == variable


def test_a_proxy_without_a_scheme_is_http():
    assert proxy_for("https://a.org", {"HTTPS_PROXY": "proxy:3128"}).url == "http://proxy:3128"


@pytest.mark.parametrize(
    ("listed", "url"),
    [
        ("*", "https://a.example.org"),
        ("example.org", "https://example.org"),
        ("example.org", "https://a.b.example.org"),
        (".example.org", "https://a.example.org"),
        ("*.example.org", "https://a.example.org"),
        ("EXAMPLE.org.", "https://a.Example.ORG"),
        ("x.org, example.org", "https://example.org"),
        ("x.org example.org", "https://example.org"),
        ("example.org:443", "https://example.org"),
        ("example.org:8443", "https://example.org:8443"),
        ("https://example.org", "https://example.org"),
        ("https://example.org/", "https://example.org"),
        ("all://example.org", "https://example.org"),
        ("10.1.2.3", "http://10.1.2.3"),
        ("10.1.2.3:80", "http://10.1.2.3"),
        ("10.0.0.0/8", "http://10.1.2.3"),
        ("fd00::1", "http://[fd00::1]"),
        ("[fd00::1]", "http://[fd00:0::1]"),
        ("[fd00::1]:80", "http://[fd00::1]"),
        ("fd00::/8", "http://[fd00::1]"),
    ],
)
def test_what_no_proxy_excepts(listed, url):
    for name in ("NO_PROXY", "no_proxy"):
        assert proxy_for(url, {"ALL_PROXY": PROXY, name: listed}) is None


@pytest.mark.parametrize(
    ("listed", "url"),
    [
        ("", "https://example.org"),
        (",", "https://example.org"),
        ("ample.org", "https://example.org"),
        ("example.org", "https://example.org.evil.net"),
        ("example.org:8443", "https://example.org"),
        ("http://example.org", "https://example.org"),
        ("10.1.2.3", "http://10.1.2.33"),
        ("10.0.0.0/8", "http://11.1.2.3"),
        ("10.0.0.0/8", "http://ten.example.org"),
        ("10.0.0.0/99", "http://10.1.2.3"),
        ("[fd00::1]:81", "http://[fd00::1]"),
        ("::1", "http://[fd00::1]"),
        ("://", "https://example.org"),
        ("[", "https://example.org"),
    ],
)
def test_what_it_does_not(listed, url):
    assert proxy_for(url, {"ALL_PROXY": PROXY, "NO_PROXY": listed}) is not None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("socks://me:pass-word@host:1", "write socks5://"),
        ("socks4://host:1", "write socks5://"),
        ("socks4a://host:1", "write socks5://"),
        ("ftp://host:1", "ftp://"),
        ("http://me:pass-word@host:port", "is not an address"),
        ("http://host:99999", "is not an address"),
        ("http://host:0", "is not an address"),
        ("http://", "is not an address"),
        ("http://:8080", "is not an address"),
        ("http://[::1", "is not an address"),
        ("http://a b:1", "is not an address"),
        ("http:/host:1", "is not an address"),
    ],
)
def test_a_proxy_that_cannot_be_one(value, words):
    for variable in ("HTTPS_PROXY", "all_proxy"):
        with pytest.raises(BadNetworkSetting) as caught:
            proxy_for("https://example.org", {variable: value})
        assert caught.value.variable == variable and words in str(caught.value)
        assert "pass-word" not in str(caught.value)
        assert [str(each) for each in problems({variable: value})] == [str(caught.value)]
        assert proxy_for("https://example.org", {variable: value, "NO_PROXY": "*"}) is None


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
@pytest.mark.parametrize("there", [True, False])
def test_socks_needs_a_package(monkeypatch, scheme, there):
    monkeypatch.setattr(network, "find_spec", lambda name: object() if there and name == "socksio" else None)
    environ = {"ALL_PROXY": f"{scheme}://127.0.0.1:9"}
    if there:
        assert proxy_for("https://example.org", environ).url == environ["ALL_PROXY"]
        return
    with pytest.raises(BadNetworkSetting, match="pip install socksio"):
        proxy_for("https://example.org", environ)


def test_a_proxy_is_shown_without_its_password():
    proxy = proxy_for("https://a.org", {"HTTPS_PROXY": "http://me:p%40ss@proxy:3128"})
    assert proxy.shown == "http://proxy:3128" and "p%40ss" not in repr(proxy)
    assert set(proxy.secrets) == {"p%40ss", "p@ss"}


def test_certificates(tmp_path):
    text, folder = tmp_path / "text.pem", tmp_path / "folder"
    text.write_text("no certificate", encoding="utf-8")
    folder.mkdir()
    for name, value, words in [
        ("SSL_CERT_FILE", tmp_path / "nothing", "which is not there"),
        ("SSL_CERT_FILE", folder, "set SSL_CERT_DIR to it"),
        ("SSL_CERT_FILE", text, "which holds no certificates"),
        ("SSL_CERT_DIR", tmp_path / "nothing", "which is no folder"),
        ("SSL_CERT_DIR", text, "which is no folder"),
    ]:
        with pytest.raises(BadNetworkSetting, match=words) as caught:
            certificate_setting({name: str(value)})
        assert caught.value.variable == name and str(value) in str(caught.value)
    assert certificate_setting({"SSL_CERT_DIR": str(folder)}) == "SSL_CERT_DIR"
    assert certificate_setting({"SSL_CERT_FILE": ""}) is None
    system = ssl.get_default_verify_paths().cafile
    if system is not None:
        assert certificate_setting({"SSL_CERT_FILE": system}) == "SSL_CERT_FILE"
