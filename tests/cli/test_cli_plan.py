"""`plan`: one model, the whole catalogue, and budgets that are too small or no budgets at all."""

from __future__ import annotations

import json
import re

import pytest

from edge_router.api import model_plans
from edge_router.api.model_plans import room_bandwidth
from edge_router.architectures import architecture
from edge_router.catalog import model_cards
from edge_router.config.settings import Config
from edge_router.device import Gpu
from edge_router.parsing.sizes import binary
from edge_router.vram.budget import memory_budget_for

pytestmark = pytest.mark.integration

MODEL = "SmolLM2-135M-Instruct"
GORILLA = "gorilla-openfunctions-v2"
GIB = 1 << 30
ON_GPUS = [
    name for name, card in model_cards().items() if not architecture(card.architecture).lacking("cuda")
]


@pytest.fixture(autouse=True)
def bandwidth(monkeypatch):
    """Nothing is measured: 10 GB/s."""
    monkeypatch.setattr(model_plans, "room_bandwidth", lambda room, paths: 10e9)


def test_what_would_be_refused_when_it_is_built_has_no_plan(cli):
    for words in (
        ("Qwen3-30B-A3B", "--device", "cuda", "--vram-budget", "80GiB"),
        ("Qwen3-30B-A3B", "--gpu", "RTX 4090"),
        (MODEL, "--device", "cuda", "--vram-budget", "4GiB", "--set", "weak.kv_cache=int8"),
        (MODEL, "--gpu", "RTX 3060", "--set", "weak.kv_cache=float16"),
        ("--gpu", "RTX 3060", "--set", "weak.kv_cache=int8"),
    ):
        done = cli("plan", *words)
        assert done.code != 0 and done.out == "", words
        assert "only the processor's" in done.err or "only tvm on a processor" in done.err, words
    assert cli("plan", MODEL, "--set", "weak.kv_cache=int8").code == 0


def test_the_contract(cli):
    done = cli("plan", MODEL, "--vram-budget", "12GiB", "--context-window-size", "1024", "--json")
    plan = json.loads(done.out)
    assert done.code == 0
    assert (plan["model"], plan["budget_bytes"], plan["fits"]) == (MODEL, 12 * GIB, True)
    assert (plan["context_window_size"], plan["prefill_chunk_size"], plan["sliding_window_size"]) == (
        1024,
        512,
        -1,
    )
    assert plan["quantization"] == "q4f16_1"
    parts = dict(plan["bytes"])
    assert set(parts) == {"parameters", "kv_cache", "workspace", "router", "runtime", "margin", "total"}
    assert parts.pop("total") == sum(parts.values()) and all(parts.values())
    assert parts["parameters"] == 75_715_200
    assert plan["device"] == "cpu"
    assert plan["largest_context_window_size"] == 8192 and plan["lacking_bytes"] == 0
    assert plan["decode_tokens_per_s_at_most"] == pytest.approx(10e9 / (75_715_200 + 512 * 23040), abs=0.1)


def test_for_people(cli):
    done = cli("plan", MODEL, "--vram-budget", "1GiB")
    assert done.code == 0 and f"{MODEL} in q4f16_1 on cpu: fits" in done.out
    for words in (
        "context 4096",
        "longest context that fits 8192",
        "at most",
        "72.2 MiB",
        "of 1.0 GiB",
        "####",
    ):
        assert words in done.out, words
    assert done.err == ""


def test_explained_as_products(cli):
    text = cli("plan", MODEL, "--vram-budget", "1GiB", "--context-window-size", "2048", "--explain").out
    assert (
        "129 pages x 16 tokens each x 2 keys and values x 30 layers x 3 heads x 64 channels x 2 bytes" in text
    )


def test_the_whole_catalogue(cli):
    done = cli("plan", "--all", "--vram-budget", "6500MiB", "--device", "cuda")
    assert done.code == 0
    rows = {line.split()[0]: line.split()[1:] for line in done.out.splitlines()[1:]}
    assert set(rows) == set(ON_GPUS)
    assert rows[MODEL][0] == "yes" and rows["gemma-2-9b-it"][0] == "cut"
    assert re.search(
        r"gemma-2-9b-it: .*a context of \d+ instead of 4096.* takes 7.4 GiB and 6.3 GiB are", done.err
    )
    small = cli("plan", "--all", "--vram-budget", "4GiB", "--device", "cuda", "-q").out
    assert re.search(r"gemma-2-9b-it +no ", small)
    fits, parameters, quality, context, _, *fetch = rows["Qwen3-4B"][:7]
    assert (fits, parameters, quality, context, fetch) == ("yes", "4.0B", "good", "4096", ["2.1", "GiB"])
    assert "6.3 GiB on cuda" in done.err and "10 GB/s" in done.err
    assert cli("plan", "--vram-budget", "6GiB", "--device", "cuda", "--quiet").err == ""


def test_the_whole_catalogue_as_json(cli):
    plans = json.loads(cli("plan", "--vram-budget", "8GB", "--device", "cuda", "--json").out)
    assert sorted(plan["model"] for plan in plans) == sorted(ON_GPUS)
    for plan in plans:
        assert plan["fits"] == (plan["bytes"]["total"] <= 8_000_000_000)
        assert plan["bytes"]["router"] == 0


def test_the_catalogue_begins_with_what_a_person_would_take(cli):
    """The best of what fits whole and is fast enough; what is older, for one purpose, too large: with --all."""
    done = cli("plan", "--gpu", "rtx3060")
    header, *lines = done.out.splitlines()
    names = [line.split()[0] for line in lines]
    columns = "model params class context tok/s fetch memory longest answers tools think"
    assert " ".join(header.split()) == columns
    assert names[:3] == ["Qwen3-14B", "phi-4", "Qwen3-8B"] and names.index("gemma-2-9b-it") < names.index(
        "Qwen3-4B"
    )
    assert len(names) <= 16 and not {"Llama-3-8B-Instruct", "DeepSeek-R1-Distill-Llama-8B", GORILLA} & set(
        names
    )
    assert "10.8 GiB on cuda" in done.err and "360 GB/s (RTX 3060, as its maker says)" in done.err
    assert "A tenth of the GPU's memory is left" in done.err and "with: --all" in done.err
    whole = [line.split()[0] for line in cli("plan", "--gpu", "rtx3060", "--all").out.splitlines()[1:]]
    assert sorted(whole) == sorted(ON_GPUS) and whole.index(MODEL) < whole.index(GORILLA)
    slow = json.loads(
        cli("plan", "--gpu", "Apple M2", "--vram-budget", "16GB", "--bandwidth", "40GB", "--json").out
    )
    order = [plan["model"] for plan in slow]
    assert order.index("gemma-2-9b-it") > order.index(MODEL), "7 tokens a second are no reader's pace"
    tight = cli("plan", "--all", "--gpu", "RTX 3060", "--vram-budget", "6GiB").out.splitlines()
    verdicts = [line.split()[1] for line in tight[1:]]
    assert verdicts == sorted(verdicts, key=["yes", "cut", "no"].index) and set(verdicts) == {
        "yes",
        "cut",
        "no",
    }


def test_an_older_model_is_listed_where_its_successor_does_not_fit_or_it_is_here_already(cli, monkeypatch):
    def listed(budget):
        return [line.split()[0] for line in cli("plan", "--vram-budget", budget, "-q").out.splitlines()[1:]]

    assert "Qwen2.5-3B-Instruct" in listed("2500MiB") and "Qwen2.5-3B-Instruct" not in listed("12GiB")
    monkeypatch.setattr(model_plans, "target_of", lambda source, downloads: downloads.parent)
    assert "Qwen2.5-3B-Instruct" in listed("12GiB")


def test_every_successor_has_a_card_and_can_as_much():
    cards = model_cards()
    for card in cards.values():
        if card.successor:
            assert set(cards[card.successor].abilities) >= set(card.abilities), card.name
            assert cards[card.successor].max_context >= card.max_context, card.name


def test_where_nothing_fits_the_nearest_is_told(cli):
    done = cli("plan", "--vram-budget", "200MiB", "--device", "cuda")
    assert done.code == 1 and len(done.out.splitlines()) == 6
    assert f"Nothing fits; {MODEL} comes nearest and lacks" in done.err


def test_gpus_that_are_not_here(cli):
    for name in ("RTX 3060", "NVIDIA GeForce RTX 3060", "rtx 3060 12 GB", "3060"):
        plan = json.loads(cli("plan", MODEL, "--gpu", name, "--json").out)
        assert (plan["device"], plan["budget_bytes"], plan["free_bytes"]) == ("cuda", 11059 << 20, None), name
    assert json.loads(cli("plan", MODEL, "--gpu", "Radeon RX 7800XT", "--json").out)["device"] == "vulkan"
    given = cli("plan", MODEL, "--gpu", "RTX 3060", "--vram-budget", "5GiB", "--bandwidth", "100GB").out
    assert "of 5.0 GiB" in given and "100 GB/s (as given)" in given
    for words in (("--gpu", "RTX", "3060"), ("--gpu", "RTX-3060"), ("--gpu", "NVIDIA", "3060")):
        assert cli("plan", *words).out == cli("plan", "--gpu", "RTX 3060").out, words
    assert "no GPU named 'RTX'" in cli("plan", MODEL, "--gpu", "RTX").err
    unknown = cli("plan", "--gpu", "RTX 3600")
    assert unknown.code == 2 and "RTX 3060" in unknown.err and "--bandwidth" in unknown.err
    shared = cli("plan", "--gpu", "m2 pro")
    assert shared.code == 2 and "--vram-budget" in shared.err and "Apple M2 Pro" in shared.err


def test_gorilla_on_a_card_beside_a_desktop(cli):
    """4 conversations in q4f32_1 do not fit into what a desktop leaves of 12 GiB; the plan says what does."""
    asked = (
        "plan",
        GORILLA,
        "--device",
        "mlc",
        "--vram-budget",
        "11GiB",
        "--conversations",
        "4",
        "--prefill-chunk-size",
        "2048",
    )
    done = cli(*asked, "--quantization", "q4f32_1")
    assert done.code == 1 and "instead of 4096" in done.out
    assert "2048 for 4 conversations takes" in done.err and "it fits with max_sequences=1." in done.err
    other = cli(*asked, "--quantization", "q4f32_1", "--quantization", "q4f16_1", "--json")
    plan = json.loads(other.out)
    assert plan["fits"] and plan["quantization"] == "q4f16_1" and plan["context_window_size"] > 2048
    knobs = {item["knob"]: item for item in plan["remedies"]}
    assert knobs["max_sequences"]["enough"] and knobs["context_window_size"]["frees_bytes"] > GIB


def test_a_budget_below_the_parameters(cli):
    done = cli("plan", GORILLA, "--device", "cuda", "--vram-budget", "2GiB")
    assert done.code == 1
    assert "does not fit" in done.out and "are lacking" in done.out and "no context fits" in done.out
    assert "no single setting is enough" in done.err and "prefill_chunk_size=64 frees" in done.err
    plan = json.loads(cli("plan", GORILLA, "--device", "cuda", "--vram-budget", "2GiB", "--json").out)
    assert not plan["fits"] and plan["lacking_bytes"] == plan["bytes"]["total"] - 2 * GIB
    assert plan["largest_context_window_size"] == 0 and plan["smallest_budget_bytes"] > 5 * GIB
    assert cli("plan", "--vram-budget", "100MiB", "--device", "cuda").code == 1


def test_a_gpu_of_which_nothing_is_known_wants_an_amount(cli, monkeypatch):
    monkeypatch.setattr("edge_router.vram.budget.gpus", tuple)
    done = cli("plan", MODEL, "--set", "weak.engine=mlc")
    assert done.code == 2 and done.err == (
        "error: how much memory of the GPU of the engine mlc is free cannot be told here; say how much there is, "
        "such as: edge-router config set weak.vram_budget=12GiB\n"
    )


@pytest.mark.parametrize("text", ["-3GiB", "12XB", "lots", "0", "101%", "9999999TiB"])
def test_amounts_that_are_none(cli, text):
    done = cli("plan", MODEL, f"--vram-budget={text}")
    assert done.code == 2 and done.out == ""
    assert "weak.vram_budget" in done.err and text in done.err


@pytest.mark.parametrize("free", [9, 10])
def test_what_fits_the_card_and_not_what_others_leave_of_it(cli, monkeypatch, free):
    """Gorilla in q4f32_1, which takes 9.1 GiB, on a card of 12 with a desktop beside it."""
    card = Gpu("A", "nvidia", 12 * GIB, free * GIB)
    monkeypatch.setattr("edge_router.vram.budget.gpus", lambda: (card,))
    asked = ("gorilla-openfunctions-v2", "--quantization", "q4f32_1", "--device", "cuda")
    plan = json.loads(cli("plan", *asked, "--vram-budget", "12GiB", "--json").out)
    assert (plan["fits"], plan["fits_free"], plan["free_bytes"]) == (True, free == 10, free * GIB)
    said = cli("plan", *asked, "--vram-budget", "12GiB").err
    lacking = binary(plan["bytes"]["total"] - free * GIB)
    assert (f"{lacking} of it are not free now" in said) == (free == 9)
    within = json.loads(cli("plan", *asked, "--vram-budget", "100%", "--json").out)
    assert within["fits_free"] and within["bytes"]["total"] <= free * GIB
    assert (within["context_window_size"], within["prefill_chunk_size"]) == (
        4096,
        1024 if free == 10 else 512,
    )


def test_both_kinds_of_gigabyte(cli):
    def budget(text):
        return json.loads(cli("plan", MODEL, "--vram-budget", text, "--json").out)["budget_bytes"]

    assert budget("12GB") == 12_000_000_000 and budget("12GiB") == 12 * GIB
    assert budget("12GB") < budget("12GiB")


def test_windows_that_make_no_sense_are_put_right_and_it_is_said(cli):
    done = cli(
        "plan",
        MODEL,
        "--vram-budget",
        "8GiB",
        "--context-window-size",
        "16384",
        "--prefill-chunk-size",
        "32768",
    )
    assert "beyond the 8192 that the model was trained for" in done.err
    assert "cut to the context of 16384" in done.err
    assert cli("plan", MODEL, "--context-window-size", "0").code == 2
    assert cli("plan", MODEL, "--conversations", "-1").code == 2


def test_devices_formats_and_models_that_are_not_known(cli):
    for arguments, words in (
        (("--device", "tpu", "--vram-budget", "8GiB"), "no device named 'tpu'"),
        (("--quantization", "q4f16"), "the nearest is q4f16_"),
        (("--bandwidth", "80%"), "such as 360GB"),
    ):
        done = cli("plan", MODEL, *arguments)
        assert done.code == 2 and words in done.err, arguments
    assert cli("plan", "SmolLM3").code == 2
    done = cli("plan", "hf:owner/name")
    assert done.code == 1 and "config.json is needed" in done.err and "edge-router models pull" in done.err


def test_a_model_of_ones_own_is_planned_from_its_config(cli, tmp_path):
    config = {
        "model_type": "qwen2",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": 1000,
        "max_position_embeddings": 512,
    }
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    plan = json.loads(cli("plan", str(tmp_path), "--json").out)
    assert plan["model"] == tmp_path.name and plan["context_window_size"] == 512
    config["model_type"] = "mamba"
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    done = cli("plan", str(tmp_path))
    assert done.code == 1 and "mamba" in done.err


def test_the_bandwidth_can_be_given_or_be_unknown(cli, monkeypatch):
    done = cli("plan", MODEL, "--vram-budget", "1GiB", "--bandwidth", "20GB", "--json")
    plan = json.loads(done.out)
    assert plan["decode_tokens_per_s_at_most"] == pytest.approx(20e9 / (75_715_200 + 2048 * 23040), abs=0.1)
    assert "at 20 GB/s (as given)" in cli("plan", MODEL, "--vram-budget", "1GiB", "--bandwidth", "20GB").out
    monkeypatch.setattr(model_plans, "room_bandwidth", lambda room, paths: None)
    text = cli("plan", MODEL, "--device", "metal", "--vram-budget", "8GiB").out
    assert "bandwidth is not known" in text and "at most" not in text
    assert json.loads(cli("plan", MODEL, "--json").out)["decode_tokens_per_s_at_most"] is None


@pytest.mark.parametrize(
    ("budget", "context", "verdict", "advice"),
    [
        ("6GiB", 4096, "fits", ""),
        ("5GiB", 4096, "fits with a prefill chunk of 64 instead of 1024", "takes 5."),
        ("6GiB", 131072, "fits with a context of ", "A context of 131072"),
        ("4GiB", 4096, "does not fit: ", "no single setting is enough"),
    ],
)
def test_what_was_asked_and_what_fits_are_told_apart(cli, budget, context, verdict, advice):
    asked = ("plan", "Llama-3.1-8B-Instruct", "--vram-budget", budget, "--context-window-size", context)
    done = cli(*asked, "--device", "cpu")
    assert f"q4f16_1 on cpu: {verdict}" in done.out.splitlines()[0]
    advised = [line for line in done.err.splitlines() if not line.startswith("Note: ")]
    assert (advice in advised[0]) if advice else advised == []
    if done.code == 0:  # what was given up already is no advice
        assert "context_window_size=" not in done.err and "prefill_chunk_size=" not in done.err
    told = json.loads(cli(*asked, "--device", "cpu", "--json").out)
    assert told["asked"]["context_window_size"] == context
    fits = not verdict.startswith("does not")
    assert told["asked"]["fits"] is (verdict == "fits") and told["fits"] is fits
    assert done.code == (not fits or "a context of" in verdict), "a wish that is not kept is no success"


def test_windows_that_no_model_has_room_for_are_no_success(cli):
    everything = ("plan", "--vram-budget", "300MiB", "--device", "cpu")
    assert cli(*everything).code == 0 and cli(*everything, "--context-window-size", "100000").code == 1
    chunks = (
        "plan",
        "Llama-3.1-8B-Instruct",
        "--vram-budget",
        "5GiB",
        "--device",
        "cpu",
        "--prefill-chunk-size",
    )
    assert [cli(*chunks, chunk).code for chunk in (64, 1024)] == [0, 1]


def test_the_bandwidth_of_a_gpu_is_what_its_driver_or_its_maker_says(paths, monkeypatch):
    for gpu, rate in (
        (Gpu("NVIDIA GeForce RTX 3060", "nvidia", 12 * GIB, 11 * GIB, bandwidth=350e9), 350e9),
        (Gpu("AMD Radeon RX 6700 XT (RADV NAVI22)", "amd", 12 * GIB, 11 * GIB), 384e9),
        (Gpu("Something 9000", "amd", 12 * GIB, 11 * GIB), None),
    ):
        monkeypatch.setattr("edge_router.device.gpus", lambda gpu=gpu: (gpu,))
        monkeypatch.setattr("edge_router.vram.budget.gpus", lambda gpu=gpu: (gpu,))
        config = Config().replace(**{"weak.device": "vulkan", "weak.vram_budget": "8GiB"})
        assert room_bandwidth(memory_budget_for(config, paths), paths) == rate, gpu
