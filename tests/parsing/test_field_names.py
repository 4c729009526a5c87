"""Names of fields: ours misspelt, those of other servers, and those that would steer."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from table import each

from edge_router.errors import InvalidRequest
from edge_router.parsing.field_names import (
    check_inner,
    check_names,
    distance,
    nearest,
    nearly_private,
    steers,
)
from edge_router.surfaces.openai.parse import KNOWN

# As llama.cpp, vLLM, SGLang, TGI, OpenRouter, Mistral, DeepSeek, xAI, Perplexity, Ollama, Groq, Anthropic and
# Open WebUI have them.
OTHERS = re.findall(
    r"\w+",
    """
    min_p top_a top_n top_h typical_p tfs_z xtc_probability xtc_threshold dry_multiplier dry_base mirostat
    mirostat_tau dynatemp_range grammar json_schema samplers cache_prompt id_slot timings_per_token n_predict n_keep
    n_probs min_keep penalize_nl repeat_penalty repeat_last_n chat_template_kwargs chat_template documents priority
    add_generation_prompt continue_final_message guided_json guided_regex guided_choice structured_outputs request_id
    cache_salt vllm_xargs use_beam_search length_penalty stop_token_ids include_stop_str_in_output ignore_eos
    min_tokens skip_special_tokens truncate_prompt_tokens prompt_logprobs allowed_token_ids bad_words
    mm_processor_kwargs reasoning include_reasoning thinking enable_thinking thinking_budget think models route
    provider transforms plugins usage preset session_id trace safe_prompt random_seed prefix options keep_alive format
    raw images template num_ctx num_predict search_parameters deferred search_mode return_images mode speed task
    stop_words stop_sequences system container context_management output_config mcp_servers top_k_return regex ebnf
    separate_reasoning reasoning_format citation_options safety_settings cached_content extra_content
    generation_config response_modalities moderation modality language guidance_scale do_sample max_new_tokens
    num_beams watermark details adapter_id truncate n_ctx chat_id message_id parent_id id title files features
    variables background_tasks tool_ids filter_ids lora prompt_cache_key user_id conversation_id tags source
""",
)


@each("name", OTHERS)
def test_what_other_servers_know_is_no_slip(name: str) -> None:
    assert name not in KNOWN or name in ("prompt_cache_key", "min_p")
    check_names([name], KNOWN)
    assert not nearly_private(name) and not steers(name)


@each("name", sorted(KNOWN))
def test_every_slip_in_our_own_names_is_found(name: str) -> None:
    """One letter too many, one too few, two swapped, another case, another separator."""
    slips = {name.upper(), name.capitalize(), name.replace("_", "-"), name.replace("_", ""), f"{name}_"}
    if len(name) >= 6:
        slips |= {name[:n] + name[n + 1 :] for n in range(1, len(name))}
        slips |= {name[:n] + "x" + name[n:] for n in range(len(name))}
        slips |= {name[:n] + name[n + 1] + name[n] + name[n + 2 :] for n in range(len(name) - 1)}
    for slip in slips - set(KNOWN):
        with pytest.raises(InvalidRequest, match="did you mean"):
            check_names([slip], KNOWN)


def test_our_own_names_are_no_slips_of_one_another() -> None:
    check_names(KNOWN, KNOWN)


@given(st.text(max_size=60))
def test_any_name_is_passed_or_refused(name: str) -> None:
    try:
        check_names([name], KNOWN)
        check_inner({name: [{name: 1}]}, "field")
    except InvalidRequest as error:
        assert len(str(error)) < 300 and str(error).isascii()


@given(st.text("abc_", max_size=6), st.text("abc_", max_size=6))
def test_distance(one: str, other: str) -> None:
    found = distance(one, other, most=9)
    assert found == distance(other, one, most=9)
    assert (found == 0) == (one == other)
    assert found <= max(len(one), len(other))
    assert distance(one, other, most=2) == min(found, 3)


def test_distances_by_hand() -> None:
    for one, other, wanted in (("kitten", "sitting", 3), ("ab", "ba", 1), ("", "abc", 3), ("ca", "abc", 3)):
        assert distance(one, other, most=9) == wanted


def test_long_names_cost_nothing() -> None:
    assert nearest("x" * 10**6, KNOWN) is None
    assert not nearly_private("x" * 10**6)
