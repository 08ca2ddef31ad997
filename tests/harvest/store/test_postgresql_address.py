"""The address of a store in PostgreSQL: what is shown of it, and which files of this machine belong to it."""

from pathlib import Path

import pytest

from harvest.store.databases.postgresql_address import files_of, in_words, is_unclear, without_password

URL = "postgresql://me:s3%20cret@db.example:5432/math?connect_timeout=5&password=0ther"


def test_an_error_is_one_line_without_any_form_of_the_passwords() -> None:
    said = in_words(ValueError("no way in\n  for me:s3%20cret, s3 cret, 0ther"), URL)
    assert said == "no way in for me:[password], [password], [password]"
    assert in_words(ValueError("no server"), URL) == "no server"
    assert in_words(ValueError("no server"), "postgresql://me:@h/d") == "no server", (
        "an empty password is in every text"
    )
    assert in_words(ValueError(), URL) == "ValueError"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (URL, "postgresql://me@db.example:5432/math?connect_timeout=5"),
        ("postgresql://h/d", "postgresql://h/d"),
        ("postgresql://me@h,i/d?sslpassword=x", "postgresql://me@h,i/d"),
        ("postgresql://me:a@b@h/d", "postgresql://me@h/d"),
        ("postgresql://me:a/b@h/d", "postgresql://…"),
    ],
)
def test_an_address_is_shown_with_its_host_and_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown
    assert is_unclear(url) == shown.endswith("…")


def test_the_files_of_a_store_go_by_its_host_and_name_whoever_opens_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    here = files_of("postgresql://me:a@h/d")
    assert here == files_of("postgresql://you@h/d?connect_timeout=5")
    assert here.name == "store"
    assert here.parent.parent == tmp_path / "winnow" / "stores"
    assert here.parent.is_dir()
    assert len({here, files_of("postgresql://h/e"), files_of("postgresql://i/d")}) == 3
