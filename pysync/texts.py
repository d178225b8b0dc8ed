"""What others say, made harmless; and what we say, with what of it is to be copied.

Whatever comes from a database, a server or a file is data. It may hold line ends, escape sequences,
characters that turn the direction of what follows, and words that read like advice of ours.
"""

import re
from typing import Final, Self

MAX_QUOTED: Final = 1000
"""Characters that are shown of what somebody else says."""

_SAFE_IN_SHELLS: Final = re.compile(r"[A-Za-z0-9_@%+:,./-]", re.ASCII)
_QUOTATION_MARKS: Final = {ord(each): ascii(each)[1:-1] for each in "“”"}
_COMMAND: Final = re.compile(r"'(pysync (?:\$'[^']*'|\\.|[^'\\])*)'")
_SQL_QUOTES: Final = re.compile(
    r"""(?<![\w$])[eE]'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|"(?:[^"]|"")*\"""", re.DOTALL
)


def visible(text: str) -> str:
    r"""Spell out what isn't a visible character of one line: ``\n``, ``\u202e``.

    That is controls, formats (such as those that turn the direction), separators of lines and
    paragraphs, blanks other than the plain one, and characters that are private or unassigned.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def quoted(words: str, limit: int = MAX_QUOTED) -> str:
    """Return what somebody else says as theirs: in “quotation marks” that nothing in it ends."""
    shown = visible(words.strip())
    if len(shown) > limit:
        shown = f"{shown[:limit]}…"
    return f"“{shown.translate(_QUOTATION_MARKS)}”"


def word(text: str) -> str:
    """Return a text as an argument for a command that people copy into a shell.

    Each character that a shell might heed has its own backslash, so that it stays a text as well
    where the command is pasted together with the quotes around it: in quotes of either kind, and
    where a quote of the text's own ends them. (What ``shlex.quote`` returns doesn't.)
    """
    if not text:
        return '""'
    # Behind "--" nothing is an option; it has to be the last one.
    return ("-- " if text.startswith("-") else "") + "".join(map(_shell_character, text))


def _shell_character(each: str) -> str:
    if _SAFE_IN_SHELLS.fullmatch(each) or (each.isprintable() and not each.isascii()):
        return each
    return f"\\{each}" if each.isprintable() else f"$'{_escape(each)}'"


def _escape(each: str) -> str:
    code = ord(each)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004


def statement(sql: str) -> str:
    """Return SQL in one line of visible characters that means the same."""

    def spelt(found: re.Match[str]) -> str:
        token = found[0]
        if token.isprintable():
            return token
        if token[0] == '"':
            inner = "".join(
                each if each.isprintable() else f"\\+{ord(each):06x}"
                for each in token.replace("\\", "\\\\")
            )
            return f"U&{inner}"
        plain = token[1:] if token[0] in "eE" else token.replace("\\", "\\\\")
        return "E" + "".join(each if each.isprintable() else _escape(each) for each in plain)

    pieces, end = [], 0
    for found in _SQL_QUOTES.finditer(sql):
        pieces += [_in_line(sql[end : found.start()]), spelt(found)]
        end = found.end()
    return "".join((*pieces, _in_line(sql[end:])))


def _in_line(sql: str) -> str:
    return visible(re.sub(r"\s+", " ", sql))


class Text(str):
    """One line of ours, which knows what of it is to be copied.

    In it commands stand in single quotes, ``run 'pysync status'``, and so they are found; what is
    joined by ``+`` from a plain string is never looked into, since it may be others' words.

    :param text: the line. Values in its commands have gone through :func:`word`.
    """

    __slots__ = ("pieces",)

    pieces: tuple[tuple[str, bool], ...]
    """Text, and whether it is to be copied."""

    def __new__(cls, text: str) -> Self:
        """Find the commands in a line."""
        if isinstance(text, cls):
            return text
        line = visible(text)
        found = enumerate(_COMMAND.split(line))
        return cls._of(line, tuple((piece, bool(i % 2)) for i, piece in found if piece))

    @classmethod
    def _of(cls, line: str, pieces: tuple[tuple[str, bool], ...]) -> Self:
        made = super().__new__(cls, line)
        made.pieces = pieces
        return made

    @classmethod
    def plain(cls, text: str) -> Self:
        """Return a line without anything to copy, whatever is in it."""
        line = visible(text)
        return cls._of(line, ((line, False),) if line else ())

    @classmethod
    def sql(cls, statements: str) -> Self:
        """Return statements to copy."""
        line = statement(statements)
        return cls._of(line, ((line, True),))

    def __add__(self, more: str) -> "Text":
        """Join two lines."""
        other = more if isinstance(more, Text) else Text.plain(more)
        return Text._of(str(self) + str(other), self.pieces + other.pieces)

    def __radd__(self, before: str) -> "Text":
        """Join two lines."""
        return Text.plain(before) + self

    def __reduce__(self) -> tuple[object, ...]:
        """Copy with what is to be copied."""
        return Text._of, (str(self), self.pieces)

    @property
    def commands(self) -> tuple[str, ...]:
        """Return what is to be copied, in the order of the line."""
        return tuple(piece for piece, copied in self.pieces if copied)

    def lines(self) -> list[str]:
        """Return it for people: what is to be copied stands alone, four blanks to the right."""
        merged: list[tuple[str, bool]] = []
        for piece, copied in self.pieces:
            if merged and not copied and not merged[-1][1]:
                merged[-1] = (merged[-1][0] + piece, False)
            else:
                merged.append((piece, copied))
        found = []
        for i, (piece, copied) in enumerate(merged):
            prose = piece if i == 0 else f"  {piece.lstrip(' ,;')}"
            if i + 1 < len(merged):
                prose = f"{prose.rstrip(' :;')}:"
            if copied:
                found.append(f"    {piece}")
            elif prose.strip(" :"):
                found.append(prose)
        return found
