"""Each variable that a page reads, and what it says where one is wrong."""

from pathlib import Path

import pytest

from ui.setup import BadSetup, Setup, read_setup


def test_nothing_set_is_a_page_for_this_machine_alone() -> None:
    setup = read_setup({})
    assert setup == Setup()
    assert (setup.api_url, setup.host, setup.port) == ("http://127.0.0.1:8000", "127.0.0.1", 7860)
    assert setup.folder == setup.data_dir / "ui"


def test_each_variable_is_read() -> None:
    setup = read_setup(
        {
            "API_URL": " https://shoal.example:8443/base/ ",
            "API_KEY": "secret",
            "SHOAL_DATA_DIR": "/srv/shoal",
            "UI_TAKES_MB": "5",
            "UI_HOST": "0.0.0.0",
            "UI_PORT": "0",
        }
    )
    assert setup == Setup(
        api_url="https://shoal.example:8443/base",
        api_key="secret",
        data_dir=Path("/srv/shoal"),
        takes_limit_mb=5,
        host="0.0.0.0",
        port=0,
    )


def test_an_empty_variable_is_not_set() -> None:
    names = ("API_URL", "API_KEY", "SHOAL_DATA_DIR", "UI_TAKES_MB", "UI_HOST", "UI_PORT")
    assert read_setup(dict.fromkeys(names, "  ")) == Setup()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("API_URL", value) for value in ("ftp://x", "127.0.0.1:8000", "http://", "http://:80")),
        *(("UI_PORT", value) for value in ("-1", "65536", "1.5", "http")),
        *(("UI_TAKES_MB", value) for value in ("0", "1000001", "1 GB")),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(BadSetup, match=f"^{name}: write .* got '{value}'"):
        read_setup({name: value})


@pytest.mark.parametrize(
    "value", ["http://[::1", "http://127.0.0.1:port", "http://127.0.0.1:99999"]
)
def test_an_address_that_cannot_be_taken_apart_is_refused(value: str) -> None:
    with pytest.raises(BadSetup, match=r"^API_URL"):
        read_setup({"API_URL": value})


@pytest.mark.parametrize(
    ("url", "is_here"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://127.1.2.3", True),
        ("http://localhost:1", True),
        ("http://LOCALHOST:1", True),
        ("http://[::1]:8000", True),
        ("http://10.0.0.2", False),
        ("http://localhost.example", False),
    ],
)
def test_which_server_is_on_this_machine(url: str, is_here: bool) -> None:
    assert read_setup({"API_URL": url}).is_server_here == is_here


def test_the_key_is_not_printed() -> None:
    assert "secret" not in repr(read_setup({"API_KEY": "secret"}))
