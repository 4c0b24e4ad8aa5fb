//! SentencePiece's compiled normalisation rules (`Precompiled`): texts and what stands in their place.
//!
//! A charsmap is a double array of bytes (darts-clone) whose values are places in a blob of texts that end in NUL. It is taken apart once, when a
//! `tokenizer.json` is read: the rules are kept as a sorted list of pairs. They are applied as the reference does, quirk by quirk: each grapheme of less than
//! six bytes takes the rule of the shortest text it begins with, whole; every character of other graphemes the same alone.

use super::{Tagged, text_of};
use crate::Span;
use serde::{Deserialize, Serialize};
use unicode_segmentation::UnicodeSegmentation as _;

/// Rules in ascending order of what they replace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Charsmap(Vec<(String, String)>);

/// Bytes of a grapheme that is looked up as a whole, at most.
const MOST_BYTES: usize = 5;
/// Bytes of a text that a rule replaces, at most.
const MOST_PATH: usize = 256;
/// Rules at most; SentencePiece's own have 5,000 to 10,000.
const MOST_RULES: usize = 1 << 16;

impl Charsmap {
    /// Characters that one may become.
    pub(crate) fn growth(&self) -> usize {
        self.0.iter().map(|(_, to)| to.chars().count()).max().unwrap_or(1).max(1)
    }

    /// What stands in the place of `text`: the rule for the shortest text that it begins with.
    fn rule(&self, text: &str) -> Option<&str> {
        let ends = text.char_indices().skip(1).map(|(at, _)| at).chain([text.len()]);
        for end in ends {
            let key = &text[..end];
            if let Ok(at) = self.0.binary_search_by(|(from, _)| from.as_str().cmp(key)) {
                return Some(&self.0[at].1);
            }
        }
        None
    }

    pub(crate) fn apply(&self, text: &[Tagged]) -> Vec<Tagged> {
        let (plain, _) = text_of(text);
        let mut out = Vec::with_capacity(text.len());
        let mut rest = text;
        let mut put = |to: &str, span: Span| out.extend(to.chars().map(|c| Tagged { c, span }));
        for grapheme in plain.graphemes(true) {
            let (run, after) = rest.split_at(grapheme.chars().count());
            rest = after;
            let whole = if grapheme.len() <= MOST_BYTES { self.rule(grapheme) } else { None };
            if let Some(to) = whole {
                put(to, super::join(run));
                continue;
            }
            let mut buffer = [0; 4];
            for t in run {
                let c: &str = t.c.encode_utf8(&mut buffer);
                put(self.rule(c).unwrap_or(c), t.span);
            }
        }
        out
    }
}

/// The rules of a `precompiled_charsmap` in base64; `None` for one that is damaged.
pub(super) fn read(base64: &str) -> Option<Charsmap> {
    let bytes = decode(base64)?;
    let (size, rest) = bytes.split_first_chunk::<4>()?;
    let (trie, texts) = rest.split_at_checked(u32::from_le_bytes(*size) as usize)?;
    let units: Vec<u32> =
        trie.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let text_at = |at: usize| {
        let text = texts.get(at..)?;
        let end = text.iter().position(|&b| b == 0).unwrap_or(text.len());
        str::from_utf8(&text[..end]).ok()
    };
    let offset = |unit: u32| ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize;
    let mut rules = Vec::new();
    // Nodes to visit, each with the bytes that lead there. Every one has a unit of its own, so that a loop is noticed.
    let mut open = vec![(offset(*units.first()?), Vec::new())];
    let mut visited = 0;
    while let Some((node, path)) = open.pop() {
        visited += 1;
        if visited > units.len() || path.len() > MOST_PATH || rules.len() > MOST_RULES {
            return None;
        }
        for byte in (1..=255u8).rev() {
            let at = node ^ usize::from(byte);
            let Some(&unit) = units.get(at) else { continue };
            if unit & (1 << 31 | 0xff) != u32::from(byte) {
                continue;
            }
            let next = at ^ offset(unit);
            let mut path: Vec<u8> = path.clone();
            path.push(byte);
            if unit >> 8 & 1 == 1 {
                let value = (units.get(next)? & !(1 << 31)) as usize;
                rules.push((String::from_utf8(path.clone()).ok()?, text_at(value)?.to_owned()));
            }
            open.push((next, path));
        }
    }
    rules.sort();
    Some(Charsmap(rules))
}

fn decode(base64: &str) -> Option<Vec<u8>> {
    let (mut out, mut bits, mut n) = (Vec::with_capacity(base64.len() / 4 * 3), 0u32, 0);
    for byte in base64.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => break,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        n += 6;
        if n >= 8 {
            n -= 8;
            out.push((bits >> n) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_rule_of_a_grapheme_takes_it_whole() {
        let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        let mut rules = vec![pair("が", "が"), pair("ａ", "a"), pair("㍑", "リットル"), pair("\u{200b}", "")];
        rules.sort();
        let rules = Charsmap(rules);
        let of =
            |text: &str| rules.apply(&super::super::tagged(text)).iter().map(|t| t.c).collect::<String>();
        assert_eq!(of("か゛か\u{3099}"), "か゛か\u{3099}");
        // A full-width letter with an accent is one grapheme: the accent goes, as in the reference.
        assert_eq!(of("ａ\u{301}ｂ㍑\u{200b}"), "aｂリットル");
        assert_eq!(rules.growth(), 4);
    }

    #[test]
    fn a_damaged_charsmap_is_refused() {
        for text in ["", "AAAA", "/////w==", "BAAAAAAAAAA*"] {
            assert!(read(text).is_none(), "{text}");
        }
    }
}
