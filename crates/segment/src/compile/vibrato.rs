//! Compiled dictionaries against vibrato, another implementation of MeCab's search: the same dictionary, in MeCab's text form.
//!
//! Costs are drawn so that no two paths tie, which the two settle in different ways, and every character has one category: where a run goes on over
//! characters of several, vibrato measures it otherwise than MeCab.

use super::mecab::{MecabDictionary, Token};
use super::tests::draw;
use crate::Dictionary;
use crate::characters::N_CHARACTERS;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use vibrato::{SystemDictionaryBuilder, Tokenizer};

const LETTERS: [char; 10] = ['あ', 'い', 'う', 'カ', 'ー', '東', '京', '都', 'x', '9'];
const N_IDS: u64 = 14;
/// Name, ranges of characters, INVOKE, GROUP, LENGTH: as in `char.def`.
type Category = (&'static str, &'static [(u32, u32)], bool, bool, u32);
const CATEGORIES: [Category; 6] = [
    ("DEFAULT", &[], false, true, 0),
    ("SPACE", &[(0x20, 0x20)], false, true, 0),
    ("HIRAGANA", &[(0x3041, 0x309f)], false, true, 2),
    ("KATAKANA", &[(0x30a0, 0x30ff)], true, true, 2),
    ("KANJI", &[(0x4e00, 0x9fff)], false, false, 2),
    ("ALPHA", &[(0x30, 0x39), (0x61, 0x7a)], true, true, 0),
];

fn token(state: &mut u64) -> Token {
    Token {
        left: (draw(state) % N_IDS) as u16,
        right: (draw(state) % N_IDS) as u16,
        cost: (draw(state) % 20_000) as i16 - 5_000,
    }
}

/// One dictionary twice: ours, compiled and opened, and vibrato's.
fn pair(seed: u64) -> (Dictionary, Tokenizer) {
    let mut state = seed;
    let mut surfaces = BTreeMap::new();
    for _ in 0..150 {
        let n = 1 + draw(&mut state) % 4;
        let surface: String = (0..n).map(|_| LETTERS[draw(&mut state) as usize % LETTERS.len()]).collect();
        surfaces
            .insert(surface, (0..1 + draw(&mut state) % 3).map(|_| token(&mut state)).collect::<Vec<_>>());
    }
    let unknown: Vec<Vec<Token>> = CATEGORIES
        .iter()
        .map(|_| (0..1 + draw(&mut state) % 2).map(|_| token(&mut state)).collect())
        .collect();
    let connections: Vec<i16> =
        (0..N_IDS * N_IDS).map(|_| (draw(&mut state) % 10_000) as i16 - 2_000).collect();

    let (mut characters, mut char_def) = (vec![0; N_CHARACTERS], String::new());
    let (mut lexicon, mut unk_def, mut matrix) = (String::new(), String::new(), format!("{N_IDS} {N_IDS}\n"));
    for (i, (name, ranges, invoke, group, length)) in (0..).zip(CATEGORIES) {
        let (invoke, group) = (u32::from(invoke), u32::from(group));
        let word = 1 << i | i << 18 | length << 26 | group << 30 | invoke << 31;
        writeln!(char_def, "{name} {invoke} {group} {length}").expect("a string");
        if ranges.is_empty() {
            characters.fill(word);
        }
        for &(first, last) in ranges {
            characters[first as usize..=last as usize].fill(word);
            writeln!(char_def, "0x{first:04X}..0x{last:04X} {name}").expect("a string");
        }
        for Token { left, right, cost } in &unknown[i as usize] {
            writeln!(unk_def, "{name},{left},{right},{cost},*").expect("a string");
        }
    }
    for (surface, tokens) in &surfaces {
        for Token { left, right, cost } in tokens {
            writeln!(lexicon, "{surface},{left},{right},{cost},*").expect("a string");
        }
    }
    let ours =
        MecabDictionary::of(surfaces.into_iter().collect(), unknown, characters, N_IDS as usize, connections);
    for right in 0..N_IDS as u16 {
        for left in 0..N_IDS as u16 {
            writeln!(matrix, "{right} {left} {}", ours.connection(left, right)).expect("a string");
        }
    }
    let parts = [lexicon, matrix, char_def, unk_def];
    let [a, b, c, d] = parts.each_ref().map(String::as_bytes);
    let theirs = SystemDictionaryBuilder::from_readers(a, b, c, d).expect("MeCab's text form");
    let theirs = Tokenizer::new(theirs).ignore_space(true).expect("a category SPACE").max_grouping_len(24);
    let compiled = super::compile(&ours).expect("a small dictionary compiles");
    (Dictionary::from_bytes(&compiled.bytes).expect("our own bytes open"), theirs)
}

#[test]
fn words_are_those_of_vibrato_with_the_same_dictionary() {
    let mut state = 99;
    let mut n_words = 0;
    for seed in 0..8 {
        let (ours, theirs) = pair(seed);
        let mut worker = theirs.new_worker();
        for _ in 0..400 {
            let n = draw(&mut state) % 60;
            let mut text = String::new();
            while (text.chars().count() as u64) < n {
                match draw(&mut state) % 16 {
                    0 => text.push(' '),
                    1 => text.push(['!', 'é', '本', 'を', 'ズ'][draw(&mut state) as usize % 5]),
                    // Runs, up to more than MeCab groups.
                    2 => (0..draw(&mut state) % 40).for_each(|_| text.push('ー')),
                    _ => text.push(LETTERS[draw(&mut state) as usize % LETTERS.len()]),
                }
            }
            worker.reset_sentence(&text);
            worker.tokenize();
            let expected: Vec<String> = worker.token_iter().map(|token| token.surface().to_owned()).collect();
            let found: Vec<&str> = ours.words(&text).into_iter().map(|range| &text[range]).collect();
            assert_eq!(found, expected, "{text:?} with dictionary {seed}");
            n_words += found.len();
        }
    }
    assert!(n_words > 20_000, "only {n_words} words");
}
