"""Every directory and every EDGE_ROUTER_* variable that is not a configuration key, read when asked."""

from __future__ import annotations

import os
from pathlib import Path

from edge_router.records import dataclass

HOME_VARIABLE = "EDGE_ROUTER_HOME"


@dataclass(frozen=True, slots=True)
class Paths:
    """Where things live. `default()` follows the platform's customs; EDGE_ROUTER_HOME moves it all."""

    config_file: Path
    downloads: Path  # weights as they came, by source
    artifacts: Path  # the content-keyed artifact store
    ledger: Path  # SQLite
    routers: Path  # trained or adapted by the user, a folder each
    share: Path  # what holding a strong share has learnt; JSON
    calibration: Path  # the scores that thresholds were calibrated on; JSON
    conversations: Path  # that the user lets be kept, a file each; JSON
    confidence: Path  # what was found of a model's sureness, a file each
    spending: Path  # what the strong model has cost, answer by answer; SQLite
    callers: Path  # what is kept of each caller, a folder each
    rules: Path  # the user's own, asked before a score; TOML
    responses: Path  # answers that may be given again, where the user keeps them; SQLite
    defects: Path  # mistakes in the program that were met; JSON
    log: Path  # of a server that runs all the time

    @classmethod
    def default(cls) -> Paths:
        home = os.environ.get(HOME_VARIABLE)
        if home:
            return cls.under(expanded(home).absolute())
        import platformdirs  # which a Python of MLC's own need not have

        cache = Path(platformdirs.user_cache_dir("edge_router", appauthor=False))
        data = Path(platformdirs.user_data_dir("edge_router", appauthor=False))
        config = Path(platformdirs.user_config_dir("edge_router", appauthor=False))
        return cls(
            config_file=config / "config.toml",
            downloads=cache / "downloads",
            artifacts=cache / "artifacts",
            ledger=data / "ledger.sqlite3",
            routers=data / "routers",
            share=data / "share.json",
            calibration=data / "calibration.json",
            conversations=data / "conversations",
            confidence=data / "confidence",
            spending=data / "spending.sqlite3",
            callers=data / "callers",
            rules=config / "rules.toml",
            responses=cache / "responses.sqlite3",
            defects=data / "defects.json",
            log=data / "serve.log",
        )

    @classmethod
    def under(cls, home: Path) -> Paths:
        """Everything below one folder: tests, portable installations."""
        return cls(
            config_file=home / "config.toml",
            downloads=home / "downloads",
            artifacts=home / "artifacts",
            ledger=home / "ledger.sqlite3",
            routers=home / "routers",
            share=home / "share.json",
            calibration=home / "calibration.json",
            conversations=home / "conversations",
            confidence=home / "confidence",
            spending=home / "spending.sqlite3",
            callers=home / "callers",
            rules=home / "rules.toml",
            responses=home / "responses.sqlite3",
            defects=home / "defects.json",
            log=home / "serve.log",
        )


def expanded(text: str) -> Path:
    """The path that a user wrote; ~ is his home, ~name that of another user if there is one."""
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError:  # nobody of that name has a home
        return path
