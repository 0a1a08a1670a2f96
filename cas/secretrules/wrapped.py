"""Beginnings of credentials that are looked for in base64 as well.

A credential inside a base64 text is invisible to every other rule; its beginning has three possible spellings
there, one for each alignment. Short beginnings are left out: three letters turn up in any base64 text.
Invariant: data only.
"""

from __future__ import annotations

from typing import Final

WRAPPED_LITERALS: Final[tuple[bytes, ...]] = (
    b"-----BEGIN ",
    b"AKIA",
    b"ASIA",
    b"AIzaSy",
    b"ghp_",
    b"gho_",
    b"ghs_",
    b"github_pat_",
    b"glpat-",
    b"xoxb-",
    b"xoxp-",
    b"hooks.slack.com",
    b"sk_live_",
    b"sk_test_",
    b"rk_live_",
    b"whsec_",
    b"sk-ant-",
    b"sk-proj-",
    b"sk-or-v",
    b"npm_",
    b"pypi-AgE",
    b"dop_v1_",
    b"api_key",
    b"apiKey",
    b"API_KEY",
    b"api_secret",
    b"apiSecret",
    b"API_SECRET",
    b"secret_key",
    b"SECRET_KEY",
    b"access_token",
    b"ACCESS_TOKEN",
    b"password",
    b"PASSWORD",
    b"private_key",
)
