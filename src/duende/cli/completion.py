"""`duende completion`: the shell's script, which asks `duende __complete` for what fits."""

from __future__ import annotations

import argparse

from duende.cli import exits
from duende.cli.options import parse, verb_parser
from duende.cli.output import write

__all__ = ["SCRIPTS", "main", "parser"]

_BASH = """\
# duende's completion for bash; in ~/.bashrc: eval "$(duende completion bash)"
_duende() {
    local IFS=$'\\n'
    COMPREPLY=($(duende __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o bashdefault -o default -F _duende duende
"""

_ZSH = """\
#compdef duende
# duende's completion for zsh; in ~/.zshrc after compinit: eval "$(duende completion zsh)"
_duende() {
    local -a found
    found=("${(@f)$(duende __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "${found[1]}" ]]; then
        compadd -a found
    else
        _files
    fi
}
if [[ "${funcstack[1]}" = "_duende" ]]; then
    _duende "$@"
else
    compdef _duende duende
fi
"""

_FISH = """\
# duende's completion for fish; in ~/.config/fish/completions/duende.fish
complete -c duende -f -a '(duende __complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
complete -c duende -s c -l config -r -F
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def parser() -> argparse.ArgumentParser:
    """The command line of this verb."""
    made = verb_parser(
        "completion",
        "Print a completion script: verbs, options, and the names of daemons and stacks.",
        """
        completion bash >> ~/.bashrc
        completion fish > ~/.config/fish/completions/duende.fish
        """,
    )
    made.add_argument("shell", choices=tuple(SCRIPTS))
    return made


def main(argv: list[str]) -> int:
    """Run the verb."""
    write(SCRIPTS[parse(parser(), argv).shell])
    return exits.OK
