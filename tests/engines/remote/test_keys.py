import threading

import keyring
import keyring.backend
import keyring.errors
import pytest

from edge_router.config.sections import StrongConfig
from edge_router.engines.remote.keys import Key, NoKey, find_key

CONFIG = StrongConfig(api_key_env="MY_KEY", keyring_service="my service")


def none(service, name):
    return None


def test_the_environment_comes_first_without_white_space():
    key = find_key(CONFIG, environ={"MY_KEY": " sk-1\n"}, ask=lambda *_: pytest.fail("asked"))
    assert key == Key("sk-1", "the environment variable MY_KEY")


def test_then_the_keyring_under_service_and_variable():
    asked = []

    def ask(service, name):
        asked.append((service, name))
        return "sk-2 "

    key = find_key(CONFIG, environ={"MY_KEY": "  "}, ask=ask)
    assert key == Key("sk-2", "the system keyring (my service, MY_KEY)")
    assert asked == [("my service", "MY_KEY")]


def test_nothing_anywhere_is_no_key_and_no_error():
    assert find_key(CONFIG, environ={}, ask=none) == NoKey()
    assert find_key(CONFIG, environ={}, ask=lambda *_: "") == NoKey()


@pytest.mark.parametrize(
    "error",
    [
        keyring.errors.NoKeyringError("none. Install this, or that. See there."),
        keyring.errors.KeyringLocked("locked"),
        RuntimeError("dbus"),
    ],
)
def test_a_broken_keyring_is_no_key_and_says_why(error):
    def ask(service, name):
        raise error

    assert find_key(CONFIG, environ={}, ask=ask) == NoKey(
        f"{type(error).__name__}: {str(error).split('.')[0]}"
    )


def test_a_keyring_that_hangs_is_left_alone():
    gate = threading.Event()
    found = find_key(CONFIG, environ={}, ask=lambda *_: str(gate.wait()), wait_s=0.05)
    gate.set()
    assert found == NoKey("the keyring did not answer within 0.05 s")


def test_the_value_is_in_no_repr():
    key = Key("sk-secret", "the environment variable MY_KEY")
    assert "sk-secret" not in repr(key) + str(key) + f"{key!r}"


@pytest.mark.parametrize(
    ("value", "fits"), [("sk-abc_123", True), ("sk abc", False), ("schlüssel", False), ("a\nb", False)]
)
def test_what_can_be_sent_in_a_header(value, fits):
    assert Key(value, "").fits_a_header is fits


class Memory(keyring.backend.KeyringBackend):
    priority = 1

    def get_password(self, service, username):
        return {"edge_router/OPENAI_API_KEY": "sk-stored"}.get(f"{service}/{username}")

    def set_password(self, service, username, password):
        raise NotImplementedError


def test_the_real_keyring_package_is_asked(monkeypatch):
    before = keyring.get_keyring()
    keyring.set_keyring(Memory())
    try:
        assert find_key(StrongConfig()) == Key(
            "sk-stored", "the system keyring (edge_router, OPENAI_API_KEY)"
        )
        monkeypatch.setenv("OPENAI_API_KEY", "sk-env")
        assert find_key(StrongConfig()) == Key("sk-env", "the environment variable OPENAI_API_KEY")
    finally:
        keyring.set_keyring(before)
