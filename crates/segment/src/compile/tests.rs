//! Compiled dictionaries against the lattice as MeCab's source has it, over the uncompressed dictionary.

use super::mecab::{MecabDictionary, Token};
use super::{Compiled, compile};
use crate::characters::{Character, Characters, N_CHARACTERS};
use crate::dictionary::{HEADER_BYTES, checksum};
use crate::{DICTIONARY_FORMAT, Dictionary, SegmentError};
use proptest::prelude::*;
use std::sync::LazyLock;

const LETTERS: [char; 8] = ['あ', 'い', 'カ', 'ー', '東', '京', 'x', '𠮷'];
const KINDS: usize = 5;

pub(super) fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Words of one to four letters with costs that tie often; categories blank, kana, kanji, other (with runs), default.
fn sample(seed: u64) -> MecabDictionary {
    let mut state = seed;
    let n_ids = 12;
    let token = |state: &mut u64| Token {
        left: (draw(state) % n_ids) as u16,
        right: (draw(state) % n_ids) as u16,
        cost: (draw(state) % 5 * 100) as i16 - 100,
    };
    let mut surfaces = std::collections::BTreeMap::new();
    for _ in 0..60 {
        let n = 1 + draw(&mut state) % 4;
        let surface: String = (0..n).map(|_| LETTERS[draw(&mut state) as usize % LETTERS.len()]).collect();
        let tokens = (0..1 + draw(&mut state) % 4).map(|_| token(&mut state)).collect::<Vec<_>>();
        surfaces.insert(surface, tokens);
    }
    // Not in NFKC: may be left out.
    surfaces.insert("ｶ".to_owned(), vec![token(&mut state)]);
    let unknown =
        (0..KINDS).map(|_| (0..1 + draw(&mut state) % 2).map(|_| token(&mut state)).collect()).collect();
    let word = |kinds: u32, category: u32, length: u32, group: bool, invoke: bool| {
        kinds | category << 18 | length << 26 | u32::from(group) << 30 | u32::from(invoke) << 31
    };
    let mut characters = vec![word(1, 0, 0, true, false); N_CHARACTERS];
    characters[0x20] = word(2, 1, 0, true, false);
    characters[0x3000] = word(2, 1, 0, true, false);
    characters[0x3041..0x30a0].fill(word(4, 2, 2, true, false));
    characters[0x30a0..0x3100].fill(word(4 | 16, 4, 2, true, true));
    characters[0x4e00..0xa000].fill(word(8, 3, 2, false, false));
    characters['x' as usize] = word(16, 4, 0, true, true);
    let connections = (0..n_ids * n_ids).map(|_| (draw(&mut state) % 4 * 100) as i16).collect();
    MecabDictionary::of(surfaces.into_iter().collect(), unknown, characters, n_ids as usize, connections)
}

/// MeCab's search, written after its description and without any of our tables: for each place and each word that may stand
/// there, in the order MeCab makes them.
fn oracle(dictionary: &MecabDictionary, text: &str) -> Vec<String> {
    struct Node {
        token: Token,
        begin: usize,
        end: usize,
        cost: i64,
        previous: usize,
    }
    let chars: Vec<char> = text.chars().collect();
    let table = Characters { table: dictionary.characters.clone() };
    let of = |at: usize| -> Character { table.of(chars[at]) };
    let edge = Token { left: 0, right: 0, cost: 0 };
    let mut nodes = vec![Node { token: edge, begin: 0, end: 0, cost: 0, previous: 0 }];
    let mut ending: Vec<Vec<usize>> = vec![Vec::new(); chars.len() + 1];
    ending[0].push(0);
    let best = |nodes: &[Node], ending: &[usize], token: Token| {
        let mut best: Option<(i64, usize)> = None;
        for &left in ending.iter().rev() {
            let cost = nodes[left].cost
                + i64::from(dictionary.connection(token.left, nodes[left].token.right))
                + i64::from(token.cost);
            if best.is_none_or(|(least, _)| cost < least) {
                best = Some((cost, left));
            }
        }
        best.expect("something ends here")
    };
    for place in 0..chars.len() {
        if ending[place].is_empty() {
            continue;
        }
        let mut begin = place;
        let mut before = table.of(' ');
        while begin < chars.len() && before.is_kind_of(of(begin)) {
            before = of(begin);
            begin += 1;
        }
        if begin == chars.len() {
            continue;
        }
        let mut words: Vec<(Token, usize)> = Vec::new();
        for end in begin + 1..=chars.len() {
            let surface: String = chars[begin..end].iter().collect();
            for (_, tokens) in dictionary.surfaces.iter().filter(|(known, _)| *known == surface) {
                words.extend(tokens.iter().map(|&token| (token, end)));
            }
        }
        let first = of(begin);
        if words.is_empty() || first.invoke() {
            let unknown = &dictionary.unknown[first.category()];
            let mut add = |end: usize| words.extend(unknown.iter().map(|&token| (token, end)));
            let mut run = None;
            if first.group() {
                let mut end = begin + 1;
                let mut before = first;
                while end < chars.len() && before.is_kind_of(of(end)) {
                    before = of(end);
                    end += 1;
                }
                if end - begin - 1 <= 24 {
                    add(end);
                }
                run = Some(end);
            }
            let mut end = begin + 1;
            for _ in 0..first.length() {
                if end > chars.len() {
                    break;
                }
                if run == Some(end) {
                    continue;
                }
                add(end);
                if end == chars.len() || !first.is_kind_of(of(end)) {
                    break;
                }
                end += 1;
            }
            if words.is_empty() {
                words.extend(unknown.iter().map(|&token| (token, begin + 1)));
            }
        }
        for &(token, end) in words.iter().rev() {
            let (cost, previous) = best(&nodes, &ending[place], token);
            ending[end].push(nodes.len());
            nodes.push(Node { token, begin, end, cost, previous });
        }
    }
    let last = ending.iter().rev().find(|ending| !ending.is_empty()).expect("the beginning");
    let (_, mut at) = best(&nodes, last, edge);
    let mut words = Vec::new();
    while at != 0 {
        words.push(chars[nodes[at].begin..nodes[at].end].iter().collect());
        at = nodes[at].previous;
    }
    words.reverse();
    words
}

fn compiled(dictionary: &MecabDictionary) -> Compiled {
    compile(dictionary).expect("a small dictionary compiles")
}

static SAMPLES: LazyLock<Vec<(MecabDictionary, Dictionary)>> = LazyLock::new(|| {
    let all = (0..6).map(sample);
    all.map(|package| {
        let bytes = compiled(&package).bytes;
        (package, Dictionary::from_bytes(&bytes).expect("our own bytes open"))
    })
    .collect()
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn words_are_those_of_the_uncompressed_dictionary(
        text in proptest::collection::vec(prop_oneof![
            8 => proptest::sample::select(LETTERS.to_vec()),
            1 => Just(' '),
            1 => proptest::sample::select(vec!['\u{ffff}', 'z', 'う', '本', '😀', 'ク']),
        ], 0..60),
        which in 0usize..6,
    ) {
        let text: String = text.into_iter().collect();
        let (package, dictionary) = &SAMPLES[which];
        let words: Vec<String> = dictionary.words(&text).into_iter().map(|range| text[range].to_owned()).collect();
        prop_assert_eq!(words, oracle(package, &text));
    }

    #[test]
    fn long_runs_are_cut_as_mecab_cuts_them(letter in 0usize..8, n in 1usize..60, which in 0usize..6) {
        let text = LETTERS[letter].to_string().repeat(n) + "z";
        let (package, dictionary) = &SAMPLES[which];
        let words: Vec<String> = dictionary.words(&text).into_iter().map(|range| text[range].to_owned()).collect();
        prop_assert_eq!(words, oracle(package, &text));
    }

    #[test]
    fn bytes_changed_under_a_right_checksum_are_refused_or_opened_and_never_panic(
        at in 0usize..1 << 16, byte in any::<u8>(), cut in 0usize..64, text in "[あカ東x 😀]{0,20}",
    ) {
        static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| compiled(&sample(1)).bytes);
        let mut bytes = BYTES.clone();
        bytes.truncate(bytes.len().saturating_sub(cut).max(HEADER_BYTES));
        let n = bytes.len();
        bytes[at % n] = byte;
        let right = checksum(&bytes);
        bytes[60..64].copy_from_slice(&right.to_le_bytes());
        if let Ok(dictionary) = Dictionary::from_bytes(&bytes) {
            for range in dictionary.words(&text) {
                prop_assert!(text.get(range).is_some_and(|word| !word.is_empty()));
            }
        }
    }

    #[test]
    fn any_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), begin in any::<bool>()) {
        let mut bytes = bytes;
        if begin && bytes.len() >= HEADER_BYTES {
            bytes[..6].copy_from_slice(b"SHSD\x01\x00");
            let right = checksum(&bytes);
            bytes[60..64].copy_from_slice(&right.to_le_bytes());
        }
        prop_assert!(Dictionary::from_bytes(&bytes).is_err());
    }
}

#[test]
fn a_text_of_blanks_and_an_empty_one_have_no_words() {
    let (_, dictionary) = &SAMPLES[0];
    for text in ["", " ", "     "] {
        assert!(dictionary.words(text).is_empty(), "{text:?}");
    }
    assert!(dictionary.words("\0東京").is_empty(), "a text ends at U+0000");
}

#[test]
fn a_run_of_very_many_characters_is_not_looked_at_from_each_of_them() {
    let (_, dictionary) = &SAMPLES[0];
    for letter in ['x', 'ク', ' ', '😀'] {
        let text = letter.to_string().repeat(300_000);
        let words = dictionary.words(&text);
        let n: usize = words.iter().map(|word| word.len()).sum();
        assert_eq!(n, if letter == ' ' { 0 } else { text.len() }, "{letter:?}");
    }
}

#[test]
fn parts_give_the_dictionary_back_in_order_only() {
    let compiled = compiled(&sample(2));
    let (a, b) = compiled.bytes.split_at(compiled.bytes.len() / 2);
    let whole = Dictionary::from_bytes(&compiled.bytes).expect("it opens");
    let parts = Dictionary::from_parts(&[a, b]).expect("the parts open");
    assert_eq!((parts.source(), parts.n_entries()), (whole.source(), whole.n_entries()));
    assert!(matches!(Dictionary::from_parts(&[b, a]), Err(SegmentError::NotADictionary { .. })));
    assert_eq!(Dictionary::from_parts(&[a]).err(), Some(SegmentError::Damaged { part: "checksum" }));
    assert!(matches!(Dictionary::from_parts::<&[u8]>(&[]), Err(SegmentError::NotADictionary { bytes: 0 })));
}

#[test]
fn other_versions_are_told_apart() {
    let mut bytes = compiled(&sample(3)).bytes;
    bytes[4] += 1;
    let supported = DICTIONARY_FORMAT;
    assert_eq!(
        Dictionary::from_bytes(&bytes).err(),
        Some(SegmentError::OtherFormat { found: supported + 1, supported })
    );
}

#[test]
fn sizes_beyond_what_the_length_justifies_are_refused() {
    let bytes = compiled(&sample(4)).bytes;
    for at in (24..48).step_by(4) {
        let mut bytes = bytes.clone();
        bytes[at..at + 4].copy_from_slice(&(1u32 << 13).to_le_bytes());
        bytes[at + 2] = 1;
        let right = checksum(&bytes);
        bytes[60..64].copy_from_slice(&right.to_le_bytes());
        assert!(Dictionary::from_bytes(&bytes).is_err(), "the size at byte {at}");
    }
}
