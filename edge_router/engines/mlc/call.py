"""What the child is asked for an answer, or for a part of one: a prompt and MLC's `GenerationConfig`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from edge_router.chat.request import ChatRequest, Need
from edge_router.engines.local.sampler import SamplingDefaults
from edge_router.engines.mlc.forms import response_format
from edge_router.errors import UnsupportedRequest
from edge_router.records import dataclass

MOST_LOGPROBS = 5  # MLC's limit on processors
_PLAIN = SamplingDefaults()
_GREEDY_BELOW = 1e-5  # as MLC has it


@dataclass(frozen=True, slots=True)
class Calls:
    """How one request is put to MLC. Every setting is sent: MLC forgets some that the model's config has.

    Tokens from `vocab_size` on stay here: MLC looks their weights up where there are none, and writes there.
    """

    sampling: SamplingDefaults
    logprobs: int | None  # how many of the likeliest beside each token; None: none are told
    form: Mapping[str, object] | None
    seed: int | None
    bias: Mapping[int, float]
    end_tokens: tuple[int, ...]

    @classmethod
    def of(
        cls, request: ChatRequest, defaults: SamplingDefaults, vocab_size: int, end_tokens: Collection[int]
    ) -> Calls:
        """Raises `UnsupportedRequest` for what MLC's engine cannot do."""
        params = request.sampling
        if request.mask is not None:
            raise UnsupportedRequest("mask", "the engine mlc chooses tokens where no mask reaches")
        if params.min_p:
            raise UnsupportedRequest("min_p", "the engine mlc has none")
        if params.top_k not in (None, 0, 1):
            raise UnsupportedRequest("top_k", "the engine mlc has none but 1, the likeliest token")
        sampling = _chosen(request, defaults)
        bias = {token: value for token, value in params.logit_bias.items() if 0 <= token < vocab_size}
        form = response_format(request.output, request.name_of(Need.JSON))
        if form is not None and request.continue_final:
            reason = "the engine mlc begins a form anew, and cannot go on with one that was begun"
            raise UnsupportedRequest(request.name_of(Need.JSON), reason)
        plain = replace(sampling, temperature=1.0, top_p=1.0) == _PLAIN and not bias and form is None
        own = plain and (sampling == _PLAIN or sampling.temperature == 0)
        ends = tuple(sorted(token for token in end_tokens if token < vocab_size))
        # A C int there.
        seed = None if params.seed is None else params.seed % 2**31
        return cls(sampling, _logprobs(request, own=own), form, seed, bias, ends)

    @property
    def stepwise(self) -> bool:
        """Whether log probabilities are to be had only by choosing the likeliest token on this side.

        MLC gives each token that it takes for the likeliest a probability of 1.
        """
        return self.logprobs is not None and self.sampling.temperature == 0

    def step(self, prompt: Sequence[int]) -> dict[str, object]:
        """One token, whichever: the likeliest ones are told beside it, as the model has them."""
        whole = replace(self, sampling=_PLAIN, logprobs=max(self.logprobs or 0, 1))
        return whole.call(prompt, 1, formed=False)

    def call(self, prompt: Sequence[int], max_tokens: int, *, formed: bool) -> dict[str, object]:
        """`formed`: the answer's form is held to from here on."""
        config: dict[str, object] = {
            "max_tokens": max_tokens,
            "temperature": self.sampling.temperature,
            "top_p": self.sampling.top_p,
            "presence_penalty": self.sampling.presence_penalty,
            "frequency_penalty": self.sampling.frequency_penalty,
            "repetition_penalty": self.sampling.repetition_penalty,
            "seed": self.seed,
            "logit_bias": {str(token): value for token, value in self.bias.items()} or None,
            # Always: it is they that tell one token from the other, and what each stands for.
            "logprobs": True,
            "top_logprobs": self.logprobs or 0,
            "stop_strs": [],  # looked for on this side, where the answer's parts are told apart
            "stop_token_ids": list(self.end_tokens),
            "response_format": self.form if formed else None,
            # Its other way puts tokens in whose texts are told with other ones'.
            "debug_config": {"grammar_execution_mode": "constraint"} if formed and self.form else None,
        }
        given = {name: value for name, value in config.items() if value is not None}
        return {"prompt": list(prompt), "config": given}


def _chosen(request: ChatRequest, defaults: SamplingDefaults) -> SamplingDefaults:
    """The request's own over the model's, as `Sampler` takes them; the likeliest token is temperature 0."""

    def chosen(given: float | None, otherwise: float) -> float:
        return otherwise if given is None else given

    params = request.sampling
    defaults = defaults.for_request(params)
    temperature = chosen(params.temperature, defaults.temperature)
    greedy = temperature < _GREEDY_BELOW or params.top_k == 1
    return SamplingDefaults(
        temperature=0.0 if greedy else temperature,
        top_p=chosen(params.top_p, defaults.top_p),
        repetition_penalty=chosen(params.repetition_penalty, defaults.repetition_penalty),
        presence_penalty=chosen(params.presence_penalty, defaults.presence_penalty),
        frequency_penalty=chosen(params.frequency_penalty, defaults.frequency_penalty),
    )


def _logprobs(request: ChatRequest, *, own: bool) -> int | None:
    """MLC gives them after bias, penalties, mask, temperature and top_p: the model's only without any.

    What only we want is left out then, for nobody reads it.
    """
    if not request.logprobs:
        return None
    if not own:
        if request.signals is not None and request.signals.alone:
            return None
        raise UnsupportedRequest(
            request.name_of(Need.LOGPROBS),
            "the engine mlc gives the model's own at temperature 0, or 1 with a top_p of 1, and only "
            "without penalties, logit_bias and response_format",
        )
    if request.top_logprobs > MOST_LOGPROBS:
        raise UnsupportedRequest("top_logprobs", f"the engine mlc gives at most {MOST_LOGPROBS}")
    return request.top_logprobs
