"""Draws the rooms of `harvest` and `finetune` from the code's own imports, into docs/architecture.md.

    python docs/architecture.py           # writes the part of the page between its two markers
    python docs/architecture.py --check   # exit code 1 where that part is stale; numbers of files and lines may differ

A room is a folder of a package. What a room is for is the docstring of its `__init__.py`. A room imports
another one if one of its files does.
"""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/architecture.md"
BEGIN, END = "<!-- begin: made by python docs/architecture.py -->", "<!-- end -->"
PARAGRAPH = "\n\n"
LOOSE = "files"
"""The name of the room that holds the files which stand beside the rooms."""


class Package:
    """One package: the files of each room, and which rooms each room imports."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = ROOT / name
        self.files: dict[str, list[Path]] = {}
        for path in sorted(self.folder.rglob("*.py")):
            self.files.setdefault(self.room(path.relative_to(self.folder).with_suffix("").parts), []).append(path)
        if self.lines(LOOSE) == 0:  # an empty __init__.py and nothing else
            self.files.pop(LOOSE, None)
        self.imports: dict[str, set[str]] = {}
        self.from_harvest: set[str] = set()
        for room, paths in self.files.items():
            modules = set().union(*map(imported, paths))
            ours = {self.room(tuple(m.split(".")[1:])) for m in modules if m.startswith(f"{name}.")}
            self.imports[room] = (ours & self.files.keys()) - {room}
            self.from_harvest |= {m.split(".")[1] for m in modules if m.startswith("harvest.")}

    def room(self, parts: tuple[str, ...]) -> str:
        """The room of a file or of an import, given the parts of its name after the package's name."""
        stands_alone = not parts or not ((self.folder / parts[0]).is_dir() or parts[0] == "__main__")
        return LOOSE if stands_alone else parts[0]

    def lines(self, room: str) -> int:
        """How many lines the files of a room have."""
        return sum(len(p.read_text("utf-8").splitlines()) for p in self.files.get(room, []))

    def levels(self) -> dict[str, int]:
        """How high each room stands: above all that it imports."""
        level = dict.fromkeys(self.imports, 0)
        for _ in level:  # as many rounds as there are rooms, so that a circle of imports ends too
            for room, others in self.imports.items():
                level[room] = max((level[other] + 1 for other in others), default=0)
        if "__main__" in level:  # which imports commands by name
            level["__main__"] = max(level.values()) + 1
        return level

    def rooms(self) -> list[str]:
        """The rooms from top to bottom."""
        level = self.levels()
        return sorted(level, key=lambda room: (-level[room], room))

    def purpose(self, room: str) -> str:
        """What a room and the folders in it say they are for, in one paragraph."""
        if room == LOOSE:
            files = [p for p in self.files[room] if p.name != "__init__.py"]
            return " ".join(f"`{p.name}`: {docstring(p).split(PARAGRAPH)[0]}" for p in files)
        purpose = docstring(self.files[room][0]).replace(
            PARAGRAPH, " "
        )  # of a folder the first file is its __init__.py
        inner = [p for p in self.files[room][1:] if p.name == "__init__.py"]
        return " ".join([purpose, *(f"`{p.parent.name}/`: {docstring(p).split(PARAGRAPH)[0]}" for p in inner)])


def imported(path: Path) -> set[str]:
    """The dotted names that a file imports, wherever in it."""
    named: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            named |= {f"{node.module}.{alias.name}" for alias in node.names}
    return named


def docstring(path: Path) -> str:
    """A file's docstring, each paragraph on one line."""
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "(no docstring yet)"
    return PARAGRAPH.join(" ".join(paragraph.split()) for paragraph in text.split(PARAGRAPH))


def diagram(package: Package) -> list[str]:
    """The rooms in lines from top to bottom. A room imports rooms of the lines below its own, and no others."""
    of_level: dict[int, list[str]] = {}
    for room, level in sorted(package.levels().items()):
        of_level.setdefault(level, []).append(room.strip("_"))
    width = max(len(room) for rooms in of_level.values() for room in rooms) + 2
    lines = ("".join(f"[{room}]".ljust(width + 2) for room in of_level[n]) for n in sorted(of_level, reverse=True))
    return ["```text", *(line.rstrip() for line in lines), "```"]


def table(package: Package) -> list[str]:
    """A row for each room, from top to bottom: what it is for, what it imports, how large it is."""
    out = ["| room | what it is for | imports | files | lines |", "| --- | --- | --- | ---: | ---: |"]
    rooms = package.rooms()
    for room in rooms:
        name = {LOOSE: "*.py", "__main__": "__main__.py"}.get(room, f"{room}/")
        imports = " ".join(f"`{other}`" for other in rooms if other in package.imports[room]) or "nothing"
        purpose = package.purpose(room).replace("|", r"\|")
        size = f"{len(package.files[room])} | {package.lines(room):,}"
        out.append(f"| `{package.name}/{name}` | {purpose} | {imports} | {size} |")
    files, lines = sum(map(len, package.files.values())), sum(map(package.lines, package.files))
    return [*out, f"| all of `{package.name}` | | | {files} | {lines:,} |"]


def picture() -> str:
    """The part of the page between the markers."""
    harvest, finetune = Package("harvest"), Package("finetune")
    used = ", ".join(f"`{room}`" for room in harvest.rooms() if room in finetune.from_harvest)
    parts = [["", "### harvest", ""], diagram(harvest), [""], table(harvest)]
    parts += [["", "### finetune", ""], diagram(finetune), [""], table(finetune)]
    parts += [["", f"Of `harvest`, `finetune` imports {used}.", ""]]
    return "\n".join(line for part in parts for line in part)


def without_sizes(text: str) -> str:
    """A part of the page without its numbers of files and lines, which change with every commit."""
    return re.sub(r" \| \d+ \| [\d,]+ \|$", "", text.strip(), flags=re.MULTILINE)


def main() -> int:
    before, rest = PAGE.read_text("utf-8").split(BEGIN)
    old, after = rest.split(END)
    new = picture()
    if "--check" in sys.argv:
        if without_sizes(old) == without_sizes(new):
            return 0
        sys.stderr.write("docs/architecture.md is stale: run python docs/architecture.py\n")
        return 1
    PAGE.write_text(f"{before}{BEGIN}\n{new}\n{END}{after}", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
