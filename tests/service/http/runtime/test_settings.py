"""Settings of the service: flags, variables, defaults, and an address that others can reach."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer import rich_utils

from tamis.probes.errors import BadInput
from tamis.service.cli.commands.serve import check_public
from tamis.service.http.runtime.environment import load_settings
from tamis.service.http.runtime.settings import KNOBS, Settings, variable
from tests.service.cli.cli_kit import tamis as run


def test_a_misspelt_variable_stops_the_start_with_the_nearest_name(monkeypatch):
    monkeypatch.setenv("TAMIS_PRT", "1")
    with pytest.raises(BadInput, match="did you mean TAMIS_PORT"):
        load_settings()
    assert run("serve").exit_code == 2
    monkeypatch.delenv("TAMIS_PRT")
    assert run("serve", "--prt", "1").exit_code == 2


def test_a_flag_goes_before_a_variable_before_the_default(monkeypatch):
    monkeypatch.setenv("TAMIS_PORT", "9000")
    monkeypatch.setenv("TAMIS_CORS_ORIGINS", "http://a, http://b")
    assert load_settings().port == 9000
    assert load_settings({"port": "9001"}).port == 9001
    assert load_settings().cors_origins == ("http://a", "http://b")
    both = load_settings({"cors_origins": ["http://c", "http://d,http://e"]})
    assert both.cors_origins == ("http://c", "http://d", "http://e")
    for name, value in (("PORT", "x"), ("PORT", "70000"), ("DEVICE", "tpu"), ("TIMEOUT_S", "-1")):
        monkeypatch.setenv(f"TAMIS_{name}", value)
        with pytest.raises(BadInput, match=f"TAMIS_{name}"):
            load_settings()
        monkeypatch.delenv(f"TAMIS_{name}")


def test_every_knob_is_a_flag_and_a_variable_in_the_help(monkeypatch):
    monkeypatch.setattr(rich_utils, "MAX_WIDTH", 200)  # names are cut where columns are narrow
    shown = run("serve", "--help-all")
    assert shown.exit_code == 0
    squeezed = "".join(c for c in shown.output if c.isalnum() or c in "_-")
    for knob in KNOBS:
        assert variable(knob.name) in squeezed
        assert knob.name.replace("_", "-") in squeezed


def test_a_cache_without_room_is_refused_not_ignored(monkeypatch):
    monkeypatch.setenv("TAMIS_CACHE_FOLDER", "kept")
    with pytest.raises(BadInput, match="cache_bytes"):
        load_settings({"cache_bytes": 0})
    assert load_settings({"cache_bytes": 1000}).cache_folder == Path("kept")
    with pytest.raises(BadInput, match="cache_storage"):
        Settings(cache_storage="int8", cache_bytes=0)


def test_passages_are_kept_by_default_within_bounds_unless_tenants_would_see_each_others():
    assert Settings().cache_bytes_for(0) == Settings().cache_bytes_for(1) == 512 << 20
    assert Settings().cache_bytes_for(2) == 0
    assert Settings(cache_bytes=7).cache_bytes_for(2) == 7
    assert Settings(cache_bytes=0).cache_bytes_for(0) == 0


def test_variables_of_clients_and_of_compose_do_not_stop_a_service(monkeypatch):
    monkeypatch.delenv("TAMIS_HOME", raising=False)
    for name in ("TAMIS_API_KEY", "TAMIS_TARGET", "TAMIS_KEYS"):
        monkeypatch.setenv(name, "x")
    assert load_settings() == Settings()


def test_a_public_address_needs_a_key_or_the_word():
    with pytest.raises(BadInput, match="tamis keys new"):
        check_public(Settings(host="0.0.0.0"))
    check_public(Settings(host="0.0.0.0", allow_public=True))
    check_public(Settings(host="0.0.0.0", api_keys=("a:b",)))
    check_public(Settings())


@pytest.mark.parametrize("origin", ["nonsense", "https://app.example.com/path", "app.example.com"])
def test_an_origin_of_pages_is_one(origin):
    with pytest.raises(BadInput, match="which is no origin; give one such as"):
        Settings(cors_origins=(origin,))
    Settings(cors_origins=("*", "https://app.example.com:8443", "chrome-extension://abc"))
