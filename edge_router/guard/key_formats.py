"""How keys and tokens of services are written: how they begin, their letters, how long they are at least.

A table of our own, for what finds strings by their disorder takes every long word for a key, and older lists
lack the formats of today. What begins like this and is long enough is a key, also where a checksum in it is
wrong: one with a slip of the pen is still nearly the key.
"""

from __future__ import annotations

import re

from edge_router.records import dataclass

WORDS, URL_SAFE, HEX = r"[A-Za-z0-9]", r"[A-Za-z0-9_\-]", r"[0-9a-fA-F]"


@dataclass(frozen=True, slots=True)
class KeyFormat:
    """`prefixes` are written as here, then at least `shortest` of `letters`. `rest` follows those, where a
    format goes on. `mixed`: one of them is a digit, which tells a short beginning from a word."""

    service: str
    prefixes: tuple[str, ...]
    letters: str = URL_SAFE
    shortest: int = 20
    rest: str = ""
    mixed: bool = False

    @property
    def pattern(self) -> str:
        """A regular expression for one whose prefix is known to be there; its time is linear."""
        begin = "|".join(map(re.escape, self.prefixes))
        digit = rf"(?={self.letters}{{0,120}}[0-9])" if self.mixed else ""
        return rf"(?:{begin}){digit}{self.letters}{{{self.shortest},}}{self.rest}"


KEY_FORMATS = (
    # Models
    KeyFormat("Anthropic", ("sk-ant-",)),
    KeyFormat("OpenRouter", ("sk-or-",)),
    KeyFormat("OpenAI", ("sk-proj-", "sk-svcacct-", "sk-admin-")),
    KeyFormat("OpenAI", ("sk-",), mixed=True),  # and those of all who took it over: DeepSeek, Moonshot, ...
    KeyFormat("ElevenLabs", ("sk_",), HEX, 40),
    KeyFormat("Google", ("AIza",), shortest=30),
    KeyFormat("Google", ("AQ.A",), shortest=30),
    KeyFormat("Google", ("GOCSPX-",)),
    KeyFormat("Google", ("ya29.",)),
    KeyFormat("xAI", ("xai-",), mixed=True),
    KeyFormat("Groq", ("gsk_",), WORDS, 30),
    KeyFormat("Cerebras", ("csk-",), WORDS, 30),
    KeyFormat("Perplexity", ("pplx-",), WORDS, 30),
    KeyFormat("Hugging Face", ("hf_", "api_org_"), WORDS, 30),
    KeyFormat("Replicate", ("r8_",), WORDS, 30),
    KeyFormat("Fireworks", ("fw_",), WORDS, 20, mixed=True),
    KeyFormat("Together", ("tgp_v1_",)),
    KeyFormat("NVIDIA", ("nvapi-",), shortest=40),
    KeyFormat("Voyage", ("pa-",), shortest=40, mixed=True),
    KeyFormat("Tavily", ("tvly-",), mixed=True),
    KeyFormat("Pinecone", ("pcsk_",)),
    KeyFormat("LangSmith", ("lsv2_pt_", "lsv2_sk_")),
    KeyFormat("Langfuse", ("sk-lf-",)),
    KeyFormat("Databricks", ("dapi", "dose"), HEX, 32),
    # Code and packages
    KeyFormat("GitHub", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"[A-Za-z0-9_.\-]", 36),
    KeyFormat("GitHub", ("github_pat_",), r"[A-Za-z0-9_]", 36),
    KeyFormat("GitLab", ("glpat-", "gldt-", "glrt-", "glcbt-", "glptt-", "glft-", "glimt-", "glagent-")),
    KeyFormat("GitLab", ("glsoat-", "gloas-", "glffct-", "GR1348941")),
    KeyFormat("Bitbucket", ("ATBB",), WORDS, 24, mixed=True),
    KeyFormat("Atlassian", ("ATATT3", "ATCTT3"), r"[A-Za-z0-9_=\-]", 40),
    KeyFormat("npm", ("npm_",), WORDS, 36),
    KeyFormat("PyPI", ("pypi-AgE",), shortest=50),
    KeyFormat("RubyGems", ("rubygems_",), HEX, 40),
    KeyFormat("crates.io", ("cio",), WORDS, 32, mixed=True),
    KeyFormat("Docker", ("dckr_pat_", "dckr_oat_")),
    # Clouds
    KeyFormat("AWS", ("AKIA", "ASIA", "ABIA", "ACCA"), r"[A-Z2-7]", 16),
    KeyFormat("AWS", ("ABSK",), r"[A-Za-z0-9+/=]", 90),
    KeyFormat("DigitalOcean", ("dop_v1_", "doo_v1_", "dor_v1_"), HEX, 40),
    KeyFormat("Alibaba", ("LTAI",), WORDS, 16, mixed=True),
    KeyFormat("Tencent", ("AKID",), WORDS, 28, mixed=True),
    KeyFormat("Heroku", ("HRKU-",)),
    KeyFormat("Fly.io", ("fo1_", "fm2_"), r"[A-Za-z0-9+/=_\-]", 40),
    KeyFormat("Netlify", ("nfp_", "nfc_", "nfu_"), WORDS, 30),
    KeyFormat("Vercel", ("vcp_", "vci_", "vca_", "vcr_", "vck_"), WORDS, 24, mixed=True),
    KeyFormat("Supabase", ("sbp_", "sb_secret_"), r"[A-Za-z0-9_]", 20, mixed=True),
    KeyFormat("PlanetScale", ("pscale_tkn_", "pscale_pw_", "pscale_oauth_"), r"[A-Za-z0-9_.=\-]", 30),
    KeyFormat("Neon", ("napi_",), WORDS, 40),
    KeyFormat("Vault", ("hvs.", "hvb.", "hvr."), shortest=24),
    KeyFormat("Terraform", (".atlasv1.",), r"[A-Za-z0-9_=\-]", 60),
    KeyFormat("Pulumi", ("pul-",), HEX, 40),
    KeyFormat("Doppler", ("dp.pt.", "dp.st.", "dp.sa.", "dp.ct."), r"[A-Za-z0-9._\-]", 40),
    KeyFormat("1Password", ("ops_eyJ",), shortest=40),
    KeyFormat("age", ("AGE-SECRET-KEY-1",), r"[A-Z0-9]", 50),
    # Watching
    KeyFormat("Grafana", ("glsa_",), r"[A-Za-z0-9_]", 32),
    KeyFormat("Grafana", ("glc_eyJ",), r"[A-Za-z0-9+/=]", 30),
    KeyFormat("Sentry", ("sntrys_", "sntryu_"), r"[A-Za-z0-9+/=_\-]", 40),
    KeyFormat("New Relic", ("NRAK-",), WORDS, 24),
    KeyFormat("PostHog", ("phx_",), WORDS, 30),
    # Payments, messages, offices
    KeyFormat("Stripe", ("sk_live_", "sk_test_", "rk_live_", "rk_test_"), WORDS, 16),
    KeyFormat("Stripe", ("whsec_",), r"[A-Za-z0-9+/=]", 24),
    KeyFormat("Square", ("sq0atp-", "sq0csp-", "sq0idp-")),
    KeyFormat("Shopify", ("shpat_", "shpss_", "shpca_", "shppa_"), HEX, 32),
    KeyFormat("Slack", ("xoxb-", "xoxp-", "xoxa-", "xoxr-", "xoxs-", "xoxc-", "xoxd-", "xapp-", "xwfp-")),
    KeyFormat("Slack", ("xoxe.xox", "xoxe-"), r"[A-Za-z0-9.\-]", 20),
    KeyFormat("Slack", ("hooks.slack.com/services/T",), r"[A-Za-z0-9/]", 30),
    KeyFormat(
        "Discord", ("discord.com/api/webhooks/", "discordapp.com/api/webhooks/"), r"[A-Za-z0-9_/\-]", 50
    ),
    KeyFormat("Twilio", ("SK",), r"[0-9a-f]", 32),
    KeyFormat("SendGrid", ("SG.",), shortest=16, rest=r"\.[A-Za-z0-9_\-]{16,}"),
    KeyFormat("Brevo", ("xkeysib-", "xsmtpsib-"), r"[A-Za-z0-9\-]", 40),
    KeyFormat("Mailgun", ("key-",), HEX, 32),
    KeyFormat("Resend", ("re_",), r"[A-Za-z0-9_]", 24, mixed=True),
    KeyFormat("Notion", ("ntn_", "secret_"), WORDS, 40),
    KeyFormat("Linear", ("lin_api_", "lin_oauth_"), WORDS, 30),
    KeyFormat("Figma", ("figd_", "figu_")),
    KeyFormat("Airtable", ("pat",), WORDS, 14, rest=r"\.[0-9a-f]{60,}"),
    KeyFormat("Dropbox", ("sl.u.", "sl.B"), shortest=60),
    KeyFormat("Facebook", ("EAAC", "EAAG", "EAAJ"), WORDS, 80),
    KeyFormat("Postman", ("PMAK-",), r"[A-Za-z0-9\-]", 50),
)

# Passwords and keys without a beginning of their own, told by the name before them. Passwords may be words.
PASSWORDS = ("password", "passwd", "pwd", "passphrase", "secret", "passwort", "kennwort", "mot de passe")
NAMES = (*PASSWORDS, "token", "key", "credential", "auth")
