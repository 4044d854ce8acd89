"""Servers are reached without the proxies of the machine that runs the tests."""

from __future__ import annotations

import ssl

import pytest


@pytest.fixture
def direct(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    # 30 ms a client, and nobody here speaks TLS
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_arguments, **_settings: None)
