"""The Hugging Face hub: what is fetched, what is checked, what is said when it cannot be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_router.catalog import HubSource, parse_source
from edge_router.errors import DiskFull, NotWritable, WeightsAmbiguous, WeightsCorrupt, WeightsUnavailable
from edge_router.hub import fetch, target_of

REPO = "someone/Tiny-Instruct"
COMMIT = "1234567890abcdef1234567890abcdef12345678"
SOURCE = HubSource(REPO)
CONFIG = b'{"model_type": "llama"}'
WEIGHTS = bytes(range(256)) * 8192  # 2 MiB


@pytest.fixture
def repository(hub: Any) -> Any:
    return hub.add(
        REPO,
        small={"config.json": CONFIG, "tokenizer.json": b"{}", "README.md": b"# Tiny"},
        large={"model.safetensors": WEIGHTS, "pytorch_model.bin": b"pickle", "onnx/model.onnx": b"onnx"},
    )


def names(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def test_only_what_a_model_needs_is_fetched(
    hub: Any, repository: Any, downloads: Path, progress: Any
) -> None:
    folder = fetch(SOURCE, downloads, progress=progress)
    assert folder == target_of(SOURCE, downloads)
    assert names(folder) == {"config.json", "tokenizer.json", "model.safetensors"}
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    total = len(WEIGHTS) + len(CONFIG) + 2
    assert progress.steps[f"fetch {SOURCE}"] == (total, total)
    asked = len(hub.requests)
    assert fetch(SOURCE, downloads, progress=progress, offline=True) == folder
    assert len(hub.requests) == asked  # it is there and whole: nobody is asked


def test_named_files_replace_the_choice(hub: Any, repository: Any, downloads: Path) -> None:
    folder = fetch(HubSource(REPO, files=("*.json", "*.bin")), downloads)
    assert names(folder) == {"config.json", "tokenizer.json", "pytorch_model.bin"}


def test_a_revision_is_its_own_folder(hub: Any, repository: Any, downloads: Path) -> None:
    pinned = HubSource(REPO, repository.commit)
    assert fetch(pinned, downloads) != fetch(SOURCE, downloads)
    with pytest.raises(WeightsUnavailable, match="has no revision v9"):
        fetch(HubSource(REPO, "v9"), downloads)


def test_a_missing_format_names_what_is_there(hub: Any, repository: Any, downloads: Path) -> None:
    repository.large = {"weights.ckpt": b"x"}
    with pytest.raises(WeightsUnavailable) as caught:
        fetch(SOURCE, downloads)
    assert "model*.safetensors" in caught.value.reason
    assert (
        "the repository holds 'README.md', 'config.json', 'tokenizer.json', 'weights.ckpt'"
        in caught.value.reason
    )
    repository.large, repository.small = {}, {}
    with pytest.raises(WeightsUnavailable, match="the repository holds nothing"):
        fetch(SOURCE, downloads)


def test_a_cut_connection_is_resumed(
    hub: Any, repository: Any, downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A block that did not arrive whole is lost, and by default one has 10 MB.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1 << 16)
    hub.cut["model.safetensors"] = 1 << 20
    folder = fetch(SOURCE, downloads)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.ranges == ["bytes=1048576-"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_content_that_is_not_what_the_hub_states_is_refused(
    hub: Any, repository: Any, downloads: Path, name: str
) -> None:
    honest = repository.files[name]
    hub.served_instead[name] = honest[:-1] + b"!"
    with pytest.raises(WeightsCorrupt) as caught:
        fetch(SOURCE, downloads)
    assert caught.value.path.name == name and not caught.value.path.exists()
    with pytest.raises(WeightsUnavailable):
        fetch(SOURCE, downloads, offline=True)
    hub.served_instead.clear()
    before = len(hub.requests)
    assert (fetch(SOURCE, downloads) / name).read_bytes() == honest
    again = [line for line in hub.requests[before:] if "GET /someone" in line or "/cdn/" in line]
    assert all(name in line for line in again)  # the others were there already


def test_half_a_pull_is_finished_with_what_is_missing(hub: Any, repository: Any, downloads: Path) -> None:
    folder = fetch(SOURCE, downloads)
    record = folder.with_name(f".{folder.name}.record.json")
    record.unlink()
    partial = folder.with_name(f".{folder.name}.partial")
    folder.rename(partial)
    (partial / "old.safetensors").write_bytes(b"of another revision")
    (partial / "model.safetensors").unlink()
    before = len(hub.requests)
    assert fetch(SOURCE, downloads) == folder
    assert not any("cdn/someone/Tiny-Instruct/config" in line for line in hub.requests[before:])
    assert names(folder) == {"config.json", "tokenizer.json", "model.safetensors"}


def test_a_changed_file_is_fetched_again(hub: Any, repository: Any, downloads: Path, progress: Any) -> None:
    folder = fetch(SOURCE, downloads)
    (folder / "model.safetensors").write_bytes(b"x" * len(WEIGHTS))
    assert fetch(SOURCE, downloads, progress=progress) == folder
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert "model.safetensors has another sha256" in progress.notes[0]


def test_files_put_there_by_hand_are_used(hub: Any, downloads: Path, progress: Any) -> None:
    with pytest.raises(WeightsUnavailable) as caught:
        fetch(SOURCE, downloads, offline=True)
    place = caught.value.place
    assert place is not None
    place.mkdir(parents=True)
    (place / "model.safetensors").write_bytes(WEIGHTS)
    with pytest.raises(WeightsUnavailable):
        fetch(SOURCE, downloads, offline=True)  # no config.json yet
    (place / "config.json").write_bytes(CONFIG)
    assert fetch(SOURCE, downloads, progress=progress, offline=True) == place
    assert progress.notes == [f"using the files in {place} as they are"]
    assert hub.requests == []


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (401, {"X-Error-Code": "RepoNotFound"}, "no such repository, or it is private"),
        (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, "refuses the token"),
        (403, {"X-Error-Code": "GatedRepo"}, "gated"),
        (403, {}, "refuses the token"),
        (429, {"Retry-After": "7"}, "asks to wait 7 s"),
        (429, {}, "too many requests"),
        (500, {}, "HTTP 500"),
    ],
)
def test_refusals_are_told_apart(
    hub: Any, repository: Any, downloads: Path, status: int, headers: dict[str, str], said: str
) -> None:
    hub.refuse = (status, headers)
    with pytest.raises(WeightsUnavailable, match=said) as caught:
        fetch(SOURCE, downloads)
    assert caught.value.what == f"hf:{REPO}@main" and caught.value.place is not None


def test_an_unknown_repository(hub: Any, downloads: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="no such repository"):
        fetch(SOURCE, downloads)
    with pytest.raises(WeightsUnavailable, match="Repo id"):
        fetch(HubSource("a/b/c"), downloads)


def test_nobody_listens(hub: Any, downloads: Path) -> None:
    hub.close()
    with pytest.raises(WeightsUnavailable, match="cannot be reached"):
        fetch(SOURCE, downloads)


def test_a_disk_too_small_is_said_before_anything_is_fetched(
    hub: Any, repository: Any, downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_router.system.disk.free_bytes", lambda path: 1 << 20)
    with pytest.raises(DiskFull) as caught:
        fetch(SOURCE, downloads)
    assert caught.value.needed == len(WEIGHTS) + len(CONFIG) + 2 and caught.value.free == 1 << 20
    assert not any("resolve" in line for line in hub.requests)


def test_a_disk_that_fills_up_meanwhile(
    hub: Any, repository: Any, downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device", str(downloads / "hub"))

    monkeypatch.setattr("huggingface_hub.hf_hub_download", full)
    with pytest.raises(DiskFull):
        fetch(SOURCE, downloads)


def test_a_mistake_of_our_own_is_not_blamed_on_the_network(
    hub: Any, repository: Any, downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise TypeError("unexpected keyword")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", broken)
    with pytest.raises(TypeError):
        fetch(SOURCE, downloads)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="/sys stands for read-only disks")
def test_a_folder_that_cannot_be_written(hub: Any, repository: Any) -> None:
    with pytest.raises(NotWritable):
        fetch(SOURCE, Path("/sys/edge_router"))


def test_mirrors_tokens_and_offline_mode_are_the_hub_librarys_own(
    hub: Any, repository: Any, downloads: Path, tmp_path: Path
) -> None:
    hub.token = "hf_secret"
    code = (
        "import sys; from pathlib import Path; from edge_router.catalog import HubSource;"
        "from edge_router.hub import fetch; print(fetch(HubSource(sys.argv[1]), Path(sys.argv[2])))"
    )

    def run(**settings: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url, **settings}
        command = [sys.executable, "-c", code, REPO, str(downloads)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    without = run()
    assert "no such repository, or it is private" in without.stderr
    offline = run(HF_TOKEN="hf_secret", HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE" in offline.stderr
    good = run(HF_TOKEN="hf_secret")
    assert (Path(good.stdout.strip()) / "model.safetensors").read_bytes() == WEIGHTS
    assert good.stderr == ""  # no bars and no warnings of other libraries
    assert "hf_secret" not in without.stderr + offline.stderr


# ---- several models in GGUF --------------------------------------------------------------------------------

MANY = ("m-Q4_K_M.gguf", "m-Q8_0.gguf", "m-Q4_K_S.gguf", "m-f16.gguf")
SPLIT = tuple(f"big-0000{number}-of-00003.gguf" for number in (1, 2, 3))


def gguf_repository(hub: Any, *names: str) -> Any:
    large = {name: name.encode() * 50 for name in names}
    return hub.add(REPO, small={"README.md": b"# Tiny", "config.json": CONFIG}, large=large)


@pytest.mark.parametrize(
    ("wanted", "held", "fetched"),
    [
        ("", ("m-Q4_0.gguf",), ["m-Q4_0.gguf"]),
        ("", ("m-Q4_0.gguf", "mmproj-f16.gguf", "imatrix.gguf"), ["m-Q4_0.gguf"]),
        ("", SPLIT, list(SPLIT)),
        ("", (*SPLIT, "m-mmproj-f16.gguf"), list(SPLIT)),
        ("", ("m-Q4_0.gguf", "Q8_0/m-Q8_0.gguf"), ["m-Q4_0.gguf"]),
        ("", ("Q8_0/m-Q8_0.gguf",), ["Q8_0/m-Q8_0.gguf"]),
        ("Q4_K_M", MANY, ["m-Q4_K_M.gguf"]),
        ("q4_k_m", MANY, ["m-Q4_K_M.gguf"]),
        ("F16", MANY, ["m-f16.gguf"]),
        ("m-Q8_0.gguf", MANY, ["m-Q8_0.gguf"]),
        ("Q4_K_XL", ("m-UD-Q4_K_XL.gguf", "m-Q4_K_M.gguf"), ["m-UD-Q4_K_XL.gguf"]),
        ("UD-Q4_K_XL", ("m-UD-Q4_K_XL.gguf", "m-Q4_K_XL.gguf"), ["m-UD-Q4_K_XL.gguf"]),
        ("Q4_K_XL", ("m-UD-Q4_K_XL.gguf", "m-Q4_K_XL.gguf"), ["m-Q4_K_XL.gguf"]),
        ("Q8_0", ("Q8_0/m-Q8_0-00001-of-00002.gguf", "Q8_0/m-Q8_0-00002-of-00002.gguf", "m-Q4_0.gguf"),
         ["Q8_0/m-Q8_0-00001-of-00002.gguf", "Q8_0/m-Q8_0-00002-of-00002.gguf"]),
        (SPLIT[1], (*SPLIT, "m-Q4_0.gguf"), list(SPLIT)),
        ("it", ("m-it-Q8_0.gguf", "m-base-Q8_0.gguf"), ["m-it-Q8_0.gguf"]),
    ],
)  # fmt: skip
def test_one_of_several_models_in_gguf_is_fetched(
    hub: Any, downloads: Path, wanted: str, held: tuple[str, ...], fetched: list[str]
) -> None:
    gguf_repository(hub, *held)
    source = HubSource(REPO, gguf=wanted)
    folder = fetch(source, downloads)
    assert names(folder) == set(fetched)
    assert fetch(source, downloads, offline=True) == folder
    assert (folder / fetched[-1]).read_bytes() == fetched[-1].encode() * 50


@pytest.mark.parametrize(
    ("wanted", "held", "best"),
    [
        ("", MANY, f"hf:{REPO}:Q8_0"),
        ("", ("m-Q4_K_M.gguf", "m-IQ2_XS.gguf"), f"hf:{REPO}:Q4_K_M"),
        ("", ("a.gguf", "b.gguf"), f"hf:{REPO}/a.gguf"),
        ("", ("a-Q8_0.gguf", "b-Q8_0.gguf"), f"hf:{REPO}/a-Q8_0.gguf"),
        ("Q5_K_M", MANY, f"hf:{REPO}:Q8_0"),
        ("Q4_K", MANY, f"hf:{REPO}:Q8_0"),
        ("m-Q5_0.gguf", MANY, f"hf:{REPO}:Q8_0"),
        ("Q8_0", ("a-Q8_0.gguf", "b-Q8_0.gguf"), f"hf:{REPO}/a-Q8_0.gguf"),
        ("", (*SPLIT, "m-Q4_0.gguf"), f"hf:{REPO}/{SPLIT[0]}"),
    ],
)
def test_what_is_not_clear_is_listed_with_a_way_that_works(
    hub: Any, downloads: Path, wanted: str, held: tuple[str, ...], best: str
) -> None:
    gguf_repository(hub, *held)
    with pytest.raises(WeightsAmbiguous) as caught:
        fetch(HubSource(REPO, gguf=wanted), downloads)
    assert not any("resolve" in line for line in hub.requests)  # nothing was fetched
    assert all(name in str(caught.value) for name in held if name not in SPLIT[1:])
    assert caught.value.sources[0] == best
    for text in caught.value.sources:
        source = parse_source(text)
        assert source is not None and len(names(fetch(source, downloads))) in (1, 3)


def test_a_missing_part_is_said_before_the_others_are_fetched(hub: Any, downloads: Path) -> None:
    gguf_repository(hub, SPLIT[0], SPLIT[2])
    with pytest.raises(WeightsUnavailable, match=f"the repository has no '{SPLIT[1]}'"):
        fetch(SOURCE, downloads)
    assert not any("resolve" in line for line in hub.requests)


def test_two_of_a_repository_lie_side_by_side(hub: Any, downloads: Path) -> None:
    gguf_repository(hub, *MANY)
    first, second = (fetch(HubSource(REPO, gguf=tag), downloads) for tag in ("Q8_0", "Q4_K_M"))
    assert first != second and names(first) == {"m-Q8_0.gguf"} and names(second) == {"m-Q4_K_M.gguf"}
    pinned = fetch(HubSource(REPO, COMMIT, gguf="Q8_0"), downloads)
    assert pinned not in (first, second)


def test_other_weights_come_before_gguf_unless_that_is_named(hub: Any, downloads: Path) -> None:
    gguf_repository(hub, "model.safetensors", *MANY)
    assert names(fetch(SOURCE, downloads)) == {"model.safetensors", "config.json"}
    assert names(fetch(HubSource(REPO, gguf="Q8_0"), downloads)) == {"m-Q8_0.gguf"}


def test_a_gguf_put_there_by_hand_is_used(hub: Any, downloads: Path, progress: Any) -> None:
    for source in (SOURCE, HubSource(REPO, gguf="Q8_0")):
        place = target_of(source, downloads)
        place.mkdir(parents=True)
        (place / "any-name.gguf").write_bytes(b"x")
        assert fetch(source, downloads, progress=progress, offline=True) == place
    assert hub.requests == []


@pytest.mark.parametrize("error", [TypeError, KeyError, ValueError, AttributeError])
def test_nonsense_that_the_hub_library_stumbles_over_is_not_our_defect(
    hub: Any, repository: Any, downloads: Path, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    code = compile(f"def stumble(*args, **kwargs): raise {error.__name__}('nonsense')", "x", "exec")
    module: dict[str, Any] = {"__name__": "huggingface_hub.hf_api"}
    exec(code, module)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", module["stumble"])
    with pytest.raises(WeightsUnavailable, match="what answers is no hub"):
        fetch(SOURCE, downloads)


# ---- what goes on, and what is no hub -------------------------------------------------------------------


@pytest.mark.parametrize("gzipped", [False, True], ids=["plain", "gzip"])
def test_a_file_without_an_end_is_stopped_at_its_stated_size(
    hub: Any, repository: Any, downloads: Path, gzipped: bool
) -> None:
    hub.endless["model.safetensors"] = gzipped
    with pytest.raises(WeightsCorrupt, match=f"expected {len(WEIGHTS)} bytes, found [0-9]+ and more"):
        fetch(SOURCE, downloads)
    assert sum(file.stat().st_size for file in downloads.rglob("*") if file.is_file()) < 64 << 20
    hub.endless.clear()
    assert names(fetch(SOURCE, downloads)) == {"config.json", "tokenizer.json", "model.safetensors"}


@pytest.mark.parametrize(
    "status", [404, *(pytest.param(code, marks=pytest.mark.slow) for code in (500, 503))]
)  # the hub's library tries again for 23 s where a server has failed
@pytest.mark.parametrize("leftover", [False, True])
def test_a_hub_that_fails_after_its_list_is_what_is_blamed(
    hub: Any, repository: Any, downloads: Path, status: int, leftover: bool
) -> None:
    """Not the weights, also where a file of another revision lies there from an earlier try."""
    if leftover:
        partial = target_of(SOURCE, downloads).with_name(".main.partial")
        partial.mkdir(parents=True)
        (partial / "model.safetensors").write_bytes(b"of another revision")
    hub.refuse_files = status
    with pytest.raises(WeightsUnavailable) as caught:
        fetch(SOURCE, downloads)
    assert "damaged" not in str(caught.value)
    hub.refuse_files = None
    assert (fetch(SOURCE, downloads) / "model.safetensors").read_bytes() == WEIGHTS


def stated(**changes: object) -> bytes:
    sibling: dict[str, object] = {"rfilename": "config.json", "size": len(CONFIG)}
    weights: dict[str, object] = {"rfilename": "model.safetensors", "size": len(WEIGHTS), **changes}
    siblings = [sibling, {"rfilename": "tokenizer.json", "size": 2}, weights]
    commit = "1234567890abcdef1234567890abcdef12345678"
    return json.dumps({"id": REPO, "sha": commit, "siblings": siblings}).encode()


def test_content_without_a_stated_hash_is_said_to_be_unchecked(
    hub: Any, repository: Any, downloads: Path, progress: Any
) -> None:
    hub.info = stated()
    assert (fetch(SOURCE, downloads, progress=progress) / "model.safetensors").read_bytes() == WEIGHTS
    [note] = [note for note in progress.notes if "no hash" in note]
    assert "model.safetensors" in note and "nothing but the size was checked" in note


@pytest.mark.parametrize(
    "answer",
    [
        *(b"", b"<html>Log in</html>", b"[]", b"null", b"7", b"\xff", b'{"siblings": 3}'),
        *(
            b'{"siblings": [1]}',
            b'{"siblings": [{"rfilename": 7}]}',
            b'{"id": 1, "sha": null, "siblings": []}',
        ),
        *(b"[" * 3000 + b"]" * 3000, stated(size=None), stated(size=-1), stated(size="many")),
        *(stated(lfs=7), stated(lfs={"sha256": []}), stated(rfilename=None)),
    ],
    ids=lambda answer: repr(answer[:40]),
)
def test_an_answer_that_is_no_hubs_is_one_sentence(
    hub: Any, repository: Any, downloads: Path, answer: bytes
) -> None:
    hub.info = answer
    with pytest.raises(WeightsUnavailable):
        fetch(SOURCE, downloads)
