"""`winnow completion SHELL` prints a script that completes commands, flags, their values, and the names of runs.

The script is made from the parsers, and starts no Python while one types.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harvest.core.errors import InputError
from winnow.command_list import ORDER, commands

HOW = {
    "bash": 'add to ~/.bashrc:  eval "$(winnow completion bash)"',
    "zsh": 'add to ~/.zshrc, after compinit:  eval "$(winnow completion zsh)"',
    "fish": "winnow completion fish > ~/.config/fish/completions/winnow.fish",
}
"""How each shell takes its script."""
RUNS = "${WINNOW_RUNS:-data/runs}"


@dataclass(frozen=True, slots=True)
class Words:
    """What may follow one command."""

    name: str
    about: str
    flags: dict[str, str]
    """Each flag with its help."""
    values: Mapping[str, Sequence[str]]
    """The flags that take one of a few words, with these words."""
    takes_run: bool


def completion(words: Sequence[str]) -> int:
    """Prints the script for one shell and returns the exit code."""
    if list(words) in (["-h"], ["--help"]):
        print("usage: winnow completion SHELL\n\n" + "\n".join(f"  {shell:<5} {how}" for shell, how in HOW.items()))
        return 0
    if len(words) != 1 or words[0] not in HOW:
        print(f"error: winnow completion takes the name of a shell: {', '.join(HOW)}", file=sys.stderr)
        return InputError.exit_code
    found = [*_commands()]
    if words[0] == "fish":
        print("\n".join(_fish(found)))
        return 0
    if words[0] == "zsh":
        print("autoload -U +X bashcompinit && bashcompinit")
    print("\n".join(_bash(found)))
    return 0


def _commands() -> Iterator[Words]:
    """Yields all commands in the order of `winnow --help`. The flags of both `estimate` are one command's."""
    from finetune.commands.arguments import parser as of_finetune
    from winnow.command_list import subcommands

    known = commands()
    names = [name for group in ORDER.values() for name in group if name in known]
    for name in [*names, *(name for name in known if name not in names)]:
        parsers = [known[name][1]]
        if name == "estimate":
            parsers.append(subcommands(of_finetune("winnow"))[name])
        actions = [action for p in parsers for action in p._actions]
        flags = {flag: (a.help or "") for a in actions for flag in a.option_strings if _is_long(flag)}
        values = {
            flag: [*map(str, a.choices)] for a in actions if a.choices for flag in a.option_strings if _is_long(flag)
        }
        yield Words(name, _first_part(parsers[0].description), flags, values, any(_names_run(a) for a in actions))


def _is_long(flag: str) -> bool:
    return flag.startswith("--") and flag != "--help"


def _names_run(action: argparse.Action) -> bool:
    return not action.option_strings and action.metavar in ("RUN", "STUDENT")


def _first_part(text: str | None) -> str:
    return (text or "").partition(";")[0].partition(":")[0]


def _bash(found: Sequence[Words]) -> Iterator[str]:
    yield "_winnow() {"
    yield '  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words="" runs=""'
    yield '  if [ "$COMP_CWORD" -eq 1 ]; then'
    names = " ".join([*(words.name for words in found), "completion", "context", "--help", "--version"])
    yield f'    COMPREPLY=($(compgen -W "{names}" -- "$cur")); return'
    yield "  fi"
    yield '  case "${COMP_WORDS[1]} $prev" in'
    for words in found:
        for flag, values in words.values.items():
            yield f'''    "{words.name} {flag}") COMPREPLY=($(compgen -W "{" ".join(values)}" -- "$cur")); return;;'''
    yield "    *' --run') runs=yes;;"
    yield "  esac"
    yield '  case "${COMP_WORDS[1]}" in'
    yield f'''    completion) COMPREPLY=($(compgen -W "{" ".join(HOW)}" -- "$cur")); return;;'''
    for words in found:
        runs = "; runs=yes" if words.takes_run else ""
        yield f'    {words.name}) words="{" ".join([*words.flags, "--help"])}"{runs};;'
    yield "  esac"
    yield '  case "$cur" in -*) COMPREPLY=($(compgen -W "$words" -- "$cur")); return;; esac'
    yield "  COMPREPLY=()"
    yield f'  [ -n "$runs" ] && COMPREPLY=($(compgen -W "$(ls "{RUNS}" 2>/dev/null)" -- "$cur"))'
    yield '  COMPREPLY+=($(compgen -f -- "$cur"))'
    yield "}"
    yield "complete -o filenames -F _winnow winnow"


def _fish(found: Sequence[Words]) -> Iterator[str]:
    yield "complete -c winnow -n __fish_use_subcommand -l version -d 'which release this is'"
    yield "complete -c winnow -f -n __fish_use_subcommand -a completion -d 'the script for a shell'"
    yield "complete -c winnow -f -n __fish_use_subcommand -a context -d 'what an assistant must know'"
    yield f"complete -c winnow -f -n '__fish_seen_subcommand_from completion' -a '{' '.join(HOW)}'"
    for words in found:
        yield f"complete -c winnow -f -n __fish_use_subcommand -a {words.name} -d {_quoted(words.about)}"
        here = f"-n '__fish_seen_subcommand_from {words.name}'"
        for flag, about in words.flags.items():
            takes = f" -x -a '{' '.join(words.values[flag])}'" if flag in words.values else ""
            yield f"complete -c winnow {here} -l {flag[2:]}{takes} -d {_quoted(_first_part(about))}"
        if words.takes_run:
            folder = "(set -q WINNOW_RUNS; and echo $WINNOW_RUNS; or echo data/runs)"
            yield f"complete -c winnow {here} -a '(ls {folder} 2>/dev/null)'"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
