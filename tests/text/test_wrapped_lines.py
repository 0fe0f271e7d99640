"""Lines that were only broken at a margin are joined; lines of their own stay so."""

from __future__ import annotations

import pytest

from tests.text.segment_kit import kinds, visible_texts

WRAPPED = [
    "Set the tty window size for file descriptor fd from winsize, which is\na two-item tuple.",
    "tcsetwinsize(fd, winsize)\nSet the window size from winsize, which is\na two-item tuple.",
    "The BrowserMatch and\nBrowserMatchNoCase directives are special cases of\nthe SetEnvIf.",
    "If necessary, packages should use `$Config{archlib}` and\n`$Config{privlib}` instead.",
    "The list of keys that apt will trust is stored in the keyring file\n/etc/apt/trusted.gpg.",
    "It is described by several documents (e.g.\nDebian Policy) and by the manual.",
    "> How long a message stays in the queue before a\n> delivery failure is reported.",
    'See the [manual](a.html\n"The manual of 2. Tools") for all of the options.',
    "Read ![the icon]\n(media/icon.svg) as a link.",
    "It means whatever `a\nb` means here.",
]
SEPARATE = [
    ["apples", "pears and plums", "bread"],
    ["if grep -q x y; then", "echo done", "fi"],
    ["mandatory", "obsolete legacy directive", "no"],
    ["--pdb      Launch the debugger", "--open     Open it in a browser"],
    ["Cold is the night that comes again,", "All of the birds have gone to rest"],
    ["hostnames", "mailing list names", "new terms or concepts", "literal user input"],
    ["Sponsoring a new package", "New maintainers usually have difficulties."],
    ["pyfuse3: only try to load it", "llfuse: only try to load that"],
]


@pytest.mark.parametrize("text", WRAPPED)
def test_a_sentence_goes_on_over_the_end_of_a_line(text: str) -> None:
    last = visible_texts(text)[-1]
    assert "\n" in last
    assert text.endswith(last)


@pytest.mark.parametrize("lines", SEPARATE)
def test_lines_of_their_own_stay_so(lines: list[str]) -> None:
    assert visible_texts("\n".join(lines)) == lines


def test_links_code_and_names_with_dots_are_never_cut() -> None:
    links = (
        'See [Chapter 6](a.html "6. The kernel. It is big.") for `a. B` and asyncio.Future.x(y).'
    )
    assert visible_texts(links) == [links]
    name = "subprocess.PIPE is special. Makefile.PL is a file."
    assert visible_texts(name) == ["subprocess.PIPE is special.", "Makefile.PL is a file."]


def test_a_title_that_was_broken_is_one_heading() -> None:
    text = "## 2.5. Why does the CD contain symlinks for\nthe frozen release?\n\nBecause it does.\n"
    assert kinds(text)[0] == ("heading", text.split("\n\n")[0])


def test_permalinks_are_no_units() -> None:
    text = "subprocess.run(args)¶\nRun the command.\n\n¶\n\nMemory\n\n[#](#memory)\n\nIt is big.\n"
    assert kinds(text) == [
        ("sentence", "subprocess.run(args)¶"),
        ("sentence", "Run the command.\n\n¶"),
        ("sentence", "Memory\n\n[#](#memory)"),
        ("sentence", "It is big."),
    ]
