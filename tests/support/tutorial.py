"""Follow the tutorial word by word: ``python -m tests.support.tutorial FOLDER``.

Each program is saved under the name in its first line, each command is typed into one shell,
and what that prints must be what the page says. A line ``…`` of the page stands for any lines, and a
``…`` in a line for any text. In a fresh environment the first commands make one and install safemp in it;
with ``--installed`` they are left out, and the shell's ``python`` is the one that runs this.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "index.md"

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

INSTALL = "python3 -m venv"
"""How the commands begin that make an environment."""

Step = tuple[str, str, str]
"""The program to save, ``""`` if none; the commands; what they print."""


def steps(page: Path = PAGE) -> list[Step]:
    """Take the page apart.

    Raises:
        ValueError: It has a block that nobody would follow.
    """
    found: list[Step] = []
    program = ""
    for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language == "python" and re.match(r"# \w+\.py\n", text):
            program = text
        elif language == "sh":
            found.append((program, text, ""))
            program = ""
        elif language == "text" and found and not found[-1][2]:
            found[-1] = (*found[-1][:2], text)
        else:
            raise ValueError(f"cannot follow this block: {text[:60]!r}")
    return found


def differs(said: str, printed: str) -> bool:
    """Tell whether something else was *printed* than the page has *said*."""
    lines = [".*" if line == "…" else ".+".join(map(re.escape, line.split("…"))) for line in said.splitlines()]
    pattern = "\n".join(lines).replace("\n.*\n", "\n(?s:.*\n)?")
    if pattern.endswith("\n.*"):
        pattern = pattern.removesuffix("\n.*") + "(?s:\n.*)?"
    # Python 3.10 names the module of a script's own error.
    printed = re.sub(r"^__main__\.(\w+: )", r"\1", printed, flags=re.MULTILINE)
    return re.fullmatch(pattern, printed.rstrip("\n")) is None


def follow(folder: Path, found: list[Step]) -> list[str]:
    """Do what the page says in *folder*; return what went another way."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}
    wrong = []
    with subprocess.Popen(
        ["sh"], cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        for number, (program, commands, said) in enumerate(found):
            if program:
                name = program.partition("\n")[0].removeprefix("# ")
                (folder / name).write_text(program.partition("\n")[2], encoding="utf-8")
            end = f"end of {number}\n"
            shell.stdin.write(f"{commands}\nprintf '%s\\n' '{end.strip()}'\n".encode())
            shell.stdin.flush()
            printed = ""
            for line in shell.stdout:
                if line.decode() == end:
                    break
                printed += line.decode()
            if said and differs(said, printed):
                wrong.append(f"$ {commands}--- the page says\n{said}--- and this was printed\n{printed}")
    return wrong


def main() -> int:
    """Follow the page; print what went another way."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="an empty folder")
    parser.add_argument("--installed", action="store_true", help="leave out the commands that install")
    asked = parser.parse_args()
    found = [step for step in steps() if not asked.installed or not step[1].startswith(INSTALL)]
    wrong = follow(asked.folder, found)
    print(*wrong, sep="\n")
    print(f"{len(found)} commands of the tutorial, {len(wrong)} went another way")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
