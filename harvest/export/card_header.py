"""Writes the header of a dataset's card: YAML for the hub and `datasets`, with the type of each column. Pure."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harvest.core.printable import one_line
from harvest.export.census import Census
from harvest.export.layouts import Columns

HUB_LICENCES = (
    "apache-2.0 mit cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0"
    " cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 bsd"
    " bsd-2-clause bsd-3-clause bsl-1.0 gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 agpl-3.0 mpl-2.0 unlicense wtfpl isc"
    " odbl odc-by pddl cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 afl-3.0 artistic-2.0 epl-2.0 eupl-1.1"
    " gfdl ms-pl ncsa ofl-1.1 osl-3.0 postgresql zlib openrail"
)
"""The names of the licences for data that stand in the hub's list."""
SIZES = (
    (1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Written:
    """Says what was written into the dataset folder."""

    folder: str
    """The name of the dataset folder, without its path."""
    files: Sequence[str]
    size_bytes: int
    columns: Columns
    manifest_root: str
    """The root of the manifest beside the rows."""
    dataset_sha256: str
    """The hash over the hashes of all rows."""


def header(name: str, census: Census, written: Written) -> Iterator[str]:
    """Gives the lines of the header, without the dashes before and after the header."""
    yield f"pretty_name: {_yaml(name)}"
    yield from _licence(census)
    yield "task_categories: [text-generation]"
    yield "tags: [reasoning, distillation, winnow]"
    size = next((name for most, name in SIZES if census.rows < most), "n>1B")
    yield f"size_categories: [{_yaml(size)}]"
    yield "configs:"
    yield "- config_name: default"
    yield "  data_files:"
    yield "  - split: train"
    if len(written.files) == 1:
        yield f"    path: {written.files[0]}"
    else:
        yield "    path:"
        yield from (f"    - {name}" for name in written.files)
    yield "dataset_info:"
    yield "  features:"
    yield from _features(written.columns, "  ")
    yield "  splits:"
    yield "  - name: train"
    yield f"    num_bytes: {written.size_bytes}"
    yield f"    num_examples: {census.rows}"
    yield f"  download_size: {written.size_bytes}"
    yield f"  dataset_size: {written.size_bytes}"


def _licence(census: Census) -> Iterator[str]:
    """Gives the lines that name the licence of the dataset.

    The licence is that of the rows if all rows have one licence which the hub knows. Else it is `other`, or `unknown`
    if no row has a licence.
    """
    found = census.kinds.get("licence", Counter())
    names = {_hub_licence(name) for name in found}
    if len(names) == 1 and (only := names.pop()) is not None:
        yield f"license: {only}"
    elif any(found):
        yield "license: other"
        yield "license_name: licences-of-the-questions"
        yield "license_link: README.md"
    else:
        yield "license: unknown"


def _hub_licence(name: str) -> str | None:
    """Returns the hub's name of a licence, or None if the hub does not know the licence."""
    key = re.sub(r"[\s_]+", "-", name.strip().casefold())
    key = {"apache-license-2.0": "apache-2.0", "mit-license": "mit", "cc0": "cc0-1.0"}.get(key, key)
    return key if key in HUB_LICENCES.split() else None


def _features(columns: Columns, indent: str) -> Iterator[str]:
    for name, c in columns.items():
        yield f"{indent}- name: {name}"
        if isinstance(c, str):
            yield f"{indent}  dtype: {c}"
        else:
            yield f"{indent}  {'list' if isinstance(c, list) else 'struct'}:"
            yield from _features(c[0] if isinstance(c, list) else c, indent + "  ")


def _yaml(text: str) -> str:
    """Returns a text as YAML in double quotes. Printable text has the same form in JSON and in YAML."""
    return json.dumps(one_line(text, 200), ensure_ascii=False)
