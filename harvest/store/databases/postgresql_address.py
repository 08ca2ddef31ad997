"""Reads the address of a store in PostgreSQL: what may be shown of it, and which files of this machine belong to it.
Says what this process is called on the server."""

import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

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
