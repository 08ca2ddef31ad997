"""Says which rows a withdrawal means: those of a source, a licence, a teacher, or single answers."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harvest.core.errors import InputError
from harvest.core.withdrawable import WITHDRAWABLE

Facts = Mapping[str, Any]


def withdrawal_of(words: Sequence[str], base: Path) -> Callable[[Facts], bool]:
    """Returns a function that says whether a row is withdrawn, from words such as "source=gsm8k".

    `question=@ids.txt` means every id in a file, one a line, relative to `base`. `source=` means rows whose source
    nobody knows. The function takes the fields of a dataset's manifest. Raises InputError for other words, and for a
    file that cannot be read.
    """
    values: dict[str, set[str]] = {}
    for word in words:
        field, equals, value = word.partition("=")
        if not equals or field not in WITHDRAWABLE:
            raise InputError(f"{word!r}: write FIELD=VALUE, with FIELD one of {', '.join(WITHDRAWABLE)}")
        found = _of_file(base / value[1:]) if value.startswith("@") else {value}
        for name in WITHDRAWABLE[field] if value else WITHDRAWABLE[field][:1]:
            values.setdefault(name, set()).update(found)

    def is_withdrawn(facts: Facts) -> bool:
        return any((facts.get(name) or "") in those for name, those in values.items())

    return is_withdrawn


def _of_file(path: Path) -> set[str]:
    try:
        found = {line.strip() for line in path.read_text("utf-8-sig").splitlines()}
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"{path}: cannot be read: {e}") from None
    return found - {""}
