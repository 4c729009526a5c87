from base64 import b64encode

import pytest

from edge_router.engines.remote.endpoint import Endpoint
from edge_router.errors import ConfigError


def test_no_address_means_openai():
    place = Endpoint.parse(None)
    assert (place.url, place.is_openai) == ("https://api.openai.com/v1", True)
    assert not Endpoint.parse("http://localhost:11434/v1").is_openai
    assert not Endpoint.parse("http://api.openai.com.example.org/v1").is_openai


def test_credentials_and_query_are_taken_out():
    place = Endpoint.parse(
        "https://me:p%40ss%20word@host:8443/v1?api-version=2024-05&code=0123456789abcdef#x"
    )
    assert place.url == "https://host:8443/v1"
    assert place.query == {"api-version": "2024-05", "code": "0123456789abcdef"}
    coded = b64encode(b"me:p@ss word").decode()
    assert place.authorization == f"Basic {coded}"
    assert place.secrets == (coded, "p@ss word", "0123456789abcdef")
    assert repr(place) == "Endpoint(url='https://host:8443/v1')"


def test_ipv6():
    assert Endpoint.parse("http://[::1]:8000/v1").url == "http://[::1]:8000/v1"


@pytest.mark.parametrize(
    "url", ["http://", "http://host:port/v1", "http://[::1/v1", "ftp://host", "http://:x@"]
)
def test_unusable_addresses(url):
    with pytest.raises(ConfigError) as caught:
        Endpoint.parse(url)
    assert caught.value.key == "strong.base_url"


def test_no_error_about_an_address_quotes_a_password():
    with pytest.raises(ConfigError) as caught:
        Endpoint.parse("http://me:secret@host:port/v1")
    assert "secret" not in str(caught.value)
