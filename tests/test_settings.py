from pathlib import Path

import pytest
from pydantic import ValidationError

from backend.errors import BadSetting
from backend.settings import BARE_NAMES, PREFIX, SHIPPED_VOICE_DIR, Settings, load_settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields:
        monkeypatch.delenv(PREFIX + field.upper(), raising=False)
        monkeypatch.delenv(field.upper(), raising=False)


def test_every_setting_says_what_it_is() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name


def test_bare_names_are_settings() -> None:
    assert {name.lower() for name in BARE_NAMES} <= Settings.model_fields.keys()
    aliased = {n.upper() for n, field in Settings.model_fields.items() if field.validation_alias}
    assert aliased == BARE_NAMES


def test_defaults() -> None:
    settings = load_settings(None)
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.checkpoint_dir == SHIPPED_VOICE_DIR


def test_prefixed_bare_and_override(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOAL_PORT", "1234")
    monkeypatch.setenv("DEVICE", "cuda:1")
    monkeypatch.setenv("MODEL_DIR", "/a")
    monkeypatch.setenv("SHOAL_MODEL_DIR", "/b")
    monkeypatch.setenv("SHOAL_NUM_THREADS", "")
    settings = load_settings(None, host="0.0.0.0", port=None)
    assert (settings.host, settings.port, settings.device) == ("0.0.0.0", 1234, "cuda:1")
    assert settings.model_dir == Path("/b")
    assert settings.num_threads is None
    assert load_settings(None, model_dir=Path("/c")).model_dir == Path("/c")


def test_unknown_variable_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOAL_MAX_BATHC", "3")
    with pytest.raises(BadSetting, match=r"SHOAL_MAX_BATHC.*SHOAL_MAX_BATCH"):
        load_settings(None)


def test_dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / ".env"
    file.write_text("SHOAL_PORT=81\nPRECISION=bf16\n")
    monkeypatch.setenv("SHOAL_PORT", "82")
    settings = load_settings(file)
    assert (settings.port, settings.precision) == (82, "bf16")
    file.write_text("PORTT=81\n")
    with pytest.raises(BadSetting, match=r"PORTT in .*\.env: did you mean SHOAL_PORT\?"):
        load_settings(file)


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "high"), ("PORT", "70000"), ("DEVICE", "tpu"), ("NUM_THREADS", "0")],
)
def test_bad_value_is_one_line(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(BadSetting, match=f"SHOAL_{name}: .*{value}") as caught:
        load_settings(None)
    assert "\n" not in str(caught.value)


def test_frozen() -> None:
    settings = load_settings(None)
    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]
