"""Where a weak model's server may be."""

from __future__ import annotations

import socket

import pytest
from table import each

from edge_router.config.settings import Config
from edge_router.engines.remote.place import locate
from edge_router.errors import ConfigError

NAMES = {
    "localhost": ["::1", "127.0.0.1"],
    "box.local": ["192.168.1.7"],
    "mine": ["127.0.1.1"],
    "torn": ["127.0.0.1", "10.0.0.1"],
    "rebound.example": ["203.0.113.5"],
}


def resolve(host: str) -> list[str]:
    if host not in NAMES:
        raise socket.gaierror(-2, "Name or service not known")
    return NAMES[host]


def never(host: str) -> list[str]:
    raise AssertionError(f"asked for {host}")


HERE = [
    ("http://127.0.0.1:11434", ["http://127.0.0.1:11434"]),
    ("http://127.0.0.1:11434/v1/", ["http://127.0.0.1:11434"]),
    ("http://127.0.0.1:11434/api", ["http://127.0.0.1:11434"]),
    ("127.0.0.1:8080", ["http://127.0.0.1:8080"]),
    ("http://[::1]:8080/swap/v1", ["http://[::1]:8080/swap"]),
    ("http://0.0.0.0:11434", ["http://127.0.0.1:11434"]),
    ("http://[::]:11434", ["http://[::1]:11434"]),
    ("http://[::ffff:127.0.0.1]:1", ["http://[::ffff:127.0.0.1]:1"]),
    ("http://127.1:1", ["http://127.1:1"]),
    ("http://localhost:1234/v1", ["http://127.0.0.1:1234", "http://[::1]:1234"]),
    ("localhost:1234", ["http://127.0.0.1:1234", "http://[::1]:1234"]),
    ("http://mine:8000", ["http://127.0.1.1:8000"]),
    ("https://localhost:8443/v1", ["https://localhost:8443"]),
]


@each("url, ways", HERE)
def test_what_is_on_this_machine_is_asked_at_the_address_that_was_looked_at(url, ways):
    place = locate(url, resolve=resolve)
    assert place.here and [each.url for each in place.endpoints] == ways


@each(
    "url",
    [
        *(
            "http://192.168.1.7:11434",
            "http://box.local:11434",
            "http://torn:1",
            "http://8.8.8.8",
            "10.0.0.1:8080",
        ),
        *("http://rebound.example", "https://mine:1", "http://[2001:db8::1]:80", "http://169.254.169.254"),
    ],
)
def test_another_machine_is_refused_unless_it_is_named(url):
    with pytest.raises(ConfigError) as caught:
        locate(url, ("elsewhere",), resolve=resolve)
    assert caught.value.key == "weak.base_url" and "weak.trusted_hosts=" in caught.value.reason


def test_a_trusted_machine_is_not_this_one():
    for url, trusted in (
        ("http://BOX.local:11434", "box.local"),
        ("http://192.168.1.7:80", "192.168.1.7:80"),
    ):
        place = locate(url, ("other", trusted), resolve=resolve)
        assert not place.here and len(place.endpoints) == 1
    assert locate("http://localhost", ("localhost",), resolve=resolve).here


@each("url", ["http://", "ftp://127.0.0.1", "http://127.0.0.1:99999", "http://nosuch:1", "unix:"])
def test_what_is_no_address_is_said(url):
    with pytest.raises(ConfigError):
        locate(url, resolve=resolve)


def test_numbers_are_looked_up_nowhere():
    assert locate("http://127.0.0.1:1", resolve=never).here


def test_credentials_stay_out_of_what_is_shown():
    place = locate("http://me:secret-word@127.0.0.1:8080/v1", resolve=never)
    assert place.endpoints[0].url == "http://127.0.0.1:8080" and "secret-word" not in repr(place)
    assert place.endpoints[0].authorization and place.host == "127.0.0.1:8080"


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")
def test_a_unix_socket_is_on_this_machine():
    for url in ("unix:/run/llama.sock", "unix:///run/llama.sock"):
        place = locate(url, resolve=never)
        assert place.here and [each.socket for each in place.endpoints] == ["/run/llama.sock"]


def test_settings_of_it_are_checked():
    for url in ("http://", "unix:", "http://127.0.0.1:0", "http://[::1"):
        with pytest.raises(ConfigError, match="base_url"):
            Config().replace(**{"weak.base_url": url})
    assert Config().replace(**{"weak.base_url": "localhost:1234"}).weak.base_url == "localhost:1234"
    with pytest.raises(ConfigError, match="server_timeout_s"):
        Config().replace(**{"weak.server_timeout_s": 0})
    with pytest.raises(ConfigError, match="api_key_env"):
        Config().replace(**{"weak.api_key_env": "sk-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"})
