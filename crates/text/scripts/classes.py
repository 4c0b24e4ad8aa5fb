"""Writes src/pipeline/classes.rs: the character classes that the crate `tokenizers` 0.23.2 splits by.

python3 classes.py UNICODE_CATEGORIES_0.1.1/src/tables.rs REGEX_SYNTAX_0.8.11/src/unicode_tables/general_category.rs > ../src/pipeline/classes.rs

The tables of the first file are Unicode 8's, those of the second Unicode 16's: what that crate uses for BERT and for byte-level tokenizers.
"""
import re
import sys


def rust_char(text):
    if text.startswith("\\u{"):
        return int(text[3:-1], 16)
    return ord({"\\'": "'", "\\\\": "\\", "\\n": "\n", "\\t": "\t", "\\r": "\r"}.get(text, text))


CHAR = r"'(\\u\{[0-9A-Fa-f]+\}|\\.|[^'\\])'"
lists = open(sys.argv[1]).read()
pairs = open(sys.argv[2]).read()


def from_lists(*names):
    found = set()
    for name in names:
        body = re.search(rf"static {name} : &'static \[char\] = &\[(.*?)\];", lists, re.S).group(1)
        found |= {rust_char(c) for c in re.findall(CHAR, body)}
    if "OTHER_PRIVATE_USE" in names:  # the table holds the ends of each range
        for first, last in ((0xE000, 0xF8FF), (0xF0000, 0xFFFFD), (0x100000, 0x10FFFD)):
            found |= {first, last}
    return found


def from_pairs(name):
    body = re.search(rf"pub const {name}: &'static \[\(char, char\)\] = &\[(.*?)\];", pairs, re.S).group(1)
    found = set()
    for a, b in re.findall(rf"\(\s*{CHAR},\s*{CHAR},?\s*\)", body):
        found |= set(range(rust_char(a), rust_char(b) + 1))
    return found


def ranges(chars):
    out = []
    for c in sorted(chars):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


print("//! Character classes, as ranges of code points. Made by scripts/classes.py, which says from what.\n")
for name, what, chars in [
    ("PUNCTUATION", "General category P.", from_lists(*re.findall(r"static (PUNCTUATION_\w+)", lists))),
    ("NONSPACING", "General category Mn.", from_lists("MARK_NONSPACING")),
    ("OTHER", "General categories Cc, Cf, Co.", from_lists("OTHER_CONTROL", "OTHER_FORMAT", "OTHER_PRIVATE_USE")),
    ("LETTER", "General category L.", from_pairs("LETTER")),
    ("NUMBER", "General category N.", from_pairs("NUMBER")),
]:
    found = ranges(chars)
    print(f"/// {what}\n#[rustfmt::skip]\npub(crate) const {name}: [(u32, u32); {len(found)}] = [")
    line = "   "
    for a, b in found:
        item = f" ({a:#x}, {b:#x}),"
        if len(line) + len(item) > 140:
            print(line)
            line = "   "
        line += item
    print(line + "\n];\n")
print("""/// Whether `c` is in one of the sorted `ranges`.
pub(crate) fn within(ranges: &[(u32, u32)], c: char) -> bool {
    let c = u32::from(c);
    let after = ranges.partition_point(|&(first, _)| first <= c);
    after.checked_sub(1).is_some_and(|at| c <= ranges[at].1)
}""")
