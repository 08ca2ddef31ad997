"""Reads the address of a store in PostgreSQL: what may be shown of it, and which files of this machine belong to it.
Says what this process is called on the server."""

import hashlib
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

POSTGRESQL = ("postgresql://", "postgres://")
"""How the URL of a store in PostgreSQL begins."""
PASSWORD = "PGPASSWORD"
"""The environment variable in which PostgreSQL's client looks for a password that its URL does not have."""
SECRET_SETTINGS = ("password=", "sslpassword=")
NAMED = "winnow "
"""How the name of each connection begins; its machine and its process there follow."""


def in_words(error: Exception, url: str) -> str:
    """Returns what went wrong, in one line without the password."""
    text = " ".join(str(error).split())
    for secret in _secrets(url):
        text = text.replace(secret, "[password]")
    return text or type(error).__name__


def without_password(url: str) -> str:
    """Returns the URL without the password, wherever in it that stands."""
    if is_unclear(url):
        return "postgresql://…"
    parts = urlsplit(url)
    user, _, _ = parts.netloc.rpartition("@")[0].partition(":")
    host = parts.netloc.rpartition("@")[2]
    query = "&".join(part for part in parts.query.split("&") if part and not part.lower().startswith(SECRET_SETTINGS))
    return urlunsplit((parts.scheme, f"{user}@{host}" if user else host, parts.path, query, ""))


def without_passwords(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Returns a command line without the passwords of stores, and the environment in which a process finds them.

    Every user of a machine can read the command lines of all its processes, and only its owner a process's environment.
    """
    shown, environment = list(words), dict[str, str]()
    for n, word in enumerate(words):
        setting, mark, value = word.partition("=") if word.startswith("--") else ("", "", word)
        if (password := _password_in(value)) is not None:
            shown[n], environment[PASSWORD] = f"{setting}{mark}{without_password(value)}", password
    return shown, environment


def _password_in(url: str) -> str | None:
    """Returns the password in the URL of a store; None if there is none that can be given in another way."""
    if not url.startswith(POSTGRESQL) or is_unclear(url):
        return None
    parts = urlsplit(url)
    settings = dict(parse_qsl(parts.query))
    if "sslpassword" in settings:  # for which there is no variable
        return None
    return settings.get("password") or unquote(parts.netloc.rpartition("@")[0].partition(":")[2]) or None


def is_unclear(url: str) -> bool:
    """Whether nobody can tell where in the URL the password ends, e.g. since there is a / in it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return True
    port = parts.netloc.rpartition(":")[2]
    is_cut = ":" in parts.netloc and not parts.path and not port.isdigit()
    return "@" in parts.path + parts.fragment or ("@" in parts.query and is_cut)


def here() -> str:
    """Returns the name by which the server's administrators, and messages of other processes, know this process."""
    return f"{NAMED}{socket.gethostname()}:{os.getpid()}"


def _secrets(url: str) -> Iterator[str]:
    """Gives each form of the passwords in a URL."""
    userinfo = url.partition("://")[2].rpartition("@")[0]
    found = [userinfo.partition(":")[2]]
    found += [part.partition("=")[2] for part in url.partition("?")[2].split("&") if part.startswith(SECRET_SETTINGS)]
    for secret in found:
        if secret:
            yield secret
            yield unquote(secret)


def files_of(url: str) -> Path:
    """Returns the path by which files of this machine are named that belong to a store in PostgreSQL."""
    parts = urlsplit(url)
    named = hashlib.sha256(f"{parts.netloc.rpartition('@')[2]}{parts.path}".encode()).hexdigest()[:16]
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state").absolute()
    folder = state / "winnow" / "stores" / named
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder / "store"
