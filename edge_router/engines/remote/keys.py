"""Where the strong model's key is looked for: an environment variable, then the system's keyring.

`keyring set edge_router OPENAI_API_KEY` puts it there (the service and the variable's name of the
configuration). A keyring that is missing, locked or broken is no error, just no key.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import field

from edge_router.config.sections import StrongConfig
from edge_router.records import dataclass

KEYRING_WAIT_S = 20.0  # long enough to type a password into a keyring's dialogue


@dataclass(frozen=True, slots=True)
class Key:
    """`source` names the place. The value is in no repr, and belongs into no log and no error."""

    value: str = field(repr=False)
    source: str

    @property
    def fits_a_header(self) -> bool:
        """HTTP libraries quote a header they can't send in their error, which must not happen to a key."""
        return self.value.isascii() and self.value.isprintable() and " " not in self.value


@dataclass(frozen=True, slots=True)
class NoKey:
    """`problem` is why the keyring could not be asked, where it could not."""

    problem: str | None = None


def find_key(
    config: StrongConfig,
    *,
    environ: Mapping[str, str] | None = None,
    ask: Callable[[str, str], str | None] | None = None,
    wait_s: float = KEYRING_WAIT_S,
) -> Key | NoKey:
    """The key, without the white space around it. `ask(service, name)` stands for the system's keyring.

    May take as long as the user takes to unlock the keyring, but no longer than `wait_s`.
    """
    name, service = config.api_key_env, config.keyring_service
    value = (os.environ if environ is None else environ).get(name, "").strip()
    if value:
        return Key(value, f"the environment variable {name}")
    answer = _answered(ask or _system_keyring, service, name, wait_s)
    if isinstance(answer, NoKey):
        return answer
    stored = (answer or "").strip()
    return Key(stored, f"the system keyring ({service}, {name})") if stored else NoKey()


def _system_keyring(service: str, name: str) -> str | None:
    import keyring

    password: str | None = keyring.get_password(service, name)
    return password


def _answered(
    ask: Callable[[str, str], str | None], service: str, name: str, wait_s: float
) -> str | NoKey | None:
    """What `ask` says, in a thread that is left behind where the keyring hangs: some do without a desktop."""
    answers: list[str | NoKey | None] = []

    def run() -> None:
        try:
            answers.append(ask(service, name))
        except Exception as error:  # noqa: BLE001 - backends raise what their platforms raise; kept in `problem`
            said = str(error).partition(". ")[0]  # what follows is advice of several lines
            answers.append(NoKey(f"{type(error).__name__}: {said}"))

    thread = threading.Thread(target=run, name="edge_router-keyring", daemon=True)
    thread.start()
    thread.join(wait_s)
    return answers[0] if answers else NoKey(f"the keyring did not answer within {wait_s:g} s")
