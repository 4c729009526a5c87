"""From the options to the things that verbs work with: configuration, paths, progress, controller.

`make_controller` is the one place where the command line gets its controller, so that a test can hand in
one with scripted models.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from edge_router.cli.options import Context, Options
from edge_router.cli.terminal import logs
from edge_router.cli.terminal.progress import progress_for
from edge_router.cli.terminal.sentences import command
from edge_router.config.settings import Config
from edge_router.engines.choice import SERVED, weak_name
from edge_router.errors import UnknownModel
from edge_router.system.paths import Paths
from edge_router.types import Progress, SilentProgress

if TYPE_CHECKING:
    from edge_router.api.client import Controller
    from edge_router.control.pool import Pool


class Installation:
    """One configuration on this machine: its file, its folders, and commands about it. Nothing is printed."""

    def __init__(self, options: Options, paths: Paths | None = None) -> None:
        self.options = options
        self.paths = paths or Paths.default()

    @property
    def config_file(self) -> Path:
        return self.options.config or self.paths.config_file

    def command(self, *words: object) -> str:
        """What to type next, about the same settings."""
        return command(*words, config=self.options.config)

    def to_fill_the_ledger(self, config: Config | None = None) -> str:
        """What to do where it holds nothing, ending in the command."""
        if not (config or self.config()).ledger.enabled:
            return (
                f"nothing is kept; switch it on with: {self.command('config', 'set', 'ledger.enabled=true')}"
            )
        return f"ask something first: {self.command('chat')}"

    @cached_property
    def progress(self) -> Progress:
        return SilentProgress()

    def config(self, **overrides: object) -> Config:
        """Defaults, file, environment, --set, then `overrides` ("weak__threads"); None is "not given"."""
        given = {
            name.replace("__", "."): value
            for name, value in overrides.items()
            if value is not None and value is not False
        }
        return Config.load(self.options.config, overrides={**self.options.settings, **given})

    def pool(self, config: Config) -> Pool:
        """The models and routers alone, for verbs that route nothing; close it."""
        from edge_router.control.pool import Pool

        return Pool(config, paths=self.paths, progress=self.progress)


class Session(Installation):
    """One run of one verb. `json`: its output is for a program."""

    def __init__(self, ctx: Context, *, json: bool = False) -> None:
        super().__init__(ctx.ensure_object(Options))
        self.json = json
        logs.hear(debug=self.options.debug)

    @cached_property
    def progress(self) -> Progress:
        return progress_for(quiet=self.options.quiet, json=self.json)

    def controller(self, config: Config) -> Controller:
        return make_controller(config, self.paths, self.progress)


def make_controller(config: Config, paths: Paths, progress: Progress) -> Controller:
    from edge_router.api.client import Controller

    return Controller(config, paths=paths, progress=progress)


def named(model: str) -> str:
    """As `find_model` takes it: OWNER/REPO is a repository where no file or folder here has that name.

    Only for what a person types. What a file says, or a program, is a path: a folder that is gone must not
    turn into somebody's repository of that name.
    """
    import re

    repository = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(:[\w.-]+)?", model, re.ASCII)
    is_file = re.search(r"\.(gguf|safetensors|bin)$", model, re.IGNORECASE) or Path(model).exists()
    return f"hf:{model}" if repository and not is_file and not model.startswith("hf.co/") else model


def server_key(config: Config) -> str | None:
    """The key that the server asks of its clients."""
    return os.environ.get(config.server.api_key_env, "").strip() or None


def choose_model(name: str | None, config: Config, known: tuple[str, ...]) -> tuple[Config, str]:
    """What `--model` means: a name that a request may carry (`known`), or another weak model.

    The latter is a model card, a folder, a file or hf:OWNER/REPO, which then also answers. Raises
    `UnknownModel` with the nearest names of both kinds.
    """
    if name is None:
        return config, "auto"
    if name in known or name.startswith("router-"):
        return config, name
    if config.weak.engine == SERVED:  # whose server says whether it has it
        return config.replace(**{"weak.model": name}), "weak"
    from edge_router.catalog import find_model

    name = named(name)
    try:
        find_model(name)
    except UnknownModel as error:
        names = (*known, *error.known)
        raise UnknownModel(name, names, nearest(name, names)) from error
    return config.replace(**{"weak.model": name}), "weak"


def nearest(name: str, names: Sequence[str]) -> tuple[str, ...]:
    """At most three of `names`: those that contain `name`, else those that are spelled like it."""
    lowered = {known.lower(): known for known in names}
    within = [known for low, known in lowered.items() if name.lower() in low]
    close = difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=0.4)
    return tuple((within or [lowered[low] for low in close])[:3])


def weak_title(config: Config) -> str:
    """The weak model's name as people say it."""
    return weak_name(config)
