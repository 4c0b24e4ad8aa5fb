//! Other spellings of what was typed: サーバ for サーバー, 取扱い for 取り扱い, りんご for リンゴ.
//!
//! Width, case, old kanji, dashes for long marks and the iteration marks of kana are one spelling already: the normaliser folds them on both
//! sides. Here is what must not be folded, because readers of the one spelling should see the other, but below their own. Nothing here takes a
//! dakuten away: か and が are different letters. A rule earns its place by being right for most words it touches; a spelling that no document
//! has costs a small read and changes nothing.

use crate::romaji;

/// Most variants of one query: each may cost a block of postings.
const MOST: usize = 16;

/// How much a variant counts beside the spelling typed.
const SPELLING: f32 = 0.6;
/// The same for another script, where the guess is bolder.
const SCRIPT: f32 = 0.5;

/// One other spelling of a piece of a query.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Variant {
    /// The piece it stands for, in bytes.
    pub(crate) range: core::ops::Range<usize>,
    /// What stands there instead.
    pub(crate) text: String,
    /// Below 1.
    pub(crate) weight: f32,
    /// Whether it is a guess that only makes sense where nothing has the words as typed: Latin letters as kana.
    pub(crate) last_resort: bool,
}

/// Kana after which the small one is also written large.
const SMALL: &[(&str, char, char)] = &[
    ("フヴウクグツ", 'ァ', 'ア'),
    ("フヴウクテデ", 'ィ', 'イ'),
    ("トドテデ", 'ゥ', 'ウ'),
    ("フヴウクシジチツイ", 'ェ', 'エ'),
    ("フヴウクツ", 'ォ', 'オ'),
    ("キシチニヒミリギジビピテデフ", 'ャ', 'ヤ'),
    ("キシチニヒミリギジビピテデフ", 'ュ', 'ユ'),
    ("キシチニヒミリギジビピテデフ", 'ョ', 'ヨ'),
];

const E_ROW: &str = "エケセテネヘメレゲゼデベペェ";
const O_ROW: &str = "オコソトノホモロゴゾドボポォョ";
/// Ends of words that are written with and without a long mark (JIS Z 8301 left it out): -er, -or, -ar, -y.
const LONG_ENDS: &str = "タダサザバパラマカガハワナャァリシチジニミビピキギィ";

/// Kanji of verbs with the kana that follow in compounds: 取り扱い.
const OKURIGANA: &[(char, &str)] = &[
    ('上', "げ"),
    ('下', "げ"),
    ('並', "べ"),
    ('乗', "り"),
    ('付', "け"),
    ('借', "り"),
    ('入', "れ"),
    ('出', "し"),
    ('切', "り"),
    ('割', "り"),
    ('取', "り"),
    ('受', "け"),
    ('合', "い"),
    ('含', "み"),
    ('呼', "び"),
    ('問', "い"),
    ('埋', "め"),
    ('売', "り"),
    ('変', "え"),
    ('外', "し"),
    ('太', "り"),
    ('届', "け"),
    ('差', "し"),
    ('巻', "き"),
    ('引', "き"),
    ('張', "り"),
    ('当', "て"),
    ('待', "ち"),
    ('戻', "し"),
    ('打', "ち"),
    ('払', "い"),
    ('扱', "い"),
    ('折', "り"),
    ('抜', "き"),
    ('押', "し"),
    ('持', "ち"),
    ('振', "り"),
    ('掛', "け"),
    ('換', "え"),
    ('書', "き"),
    ('替', "え"),
    ('植', "え"),
    ('消', "し"),
    ('焼', "き"),
    ('申', "し"),
    ('留', "め"),
    ('積', "み"),
    ('突', "き"),
    ('立', "て"),
    ('組', "み"),
    ('続', "き"),
    ('締', "め"),
    ('繰', "り"),
    ('聞', "き"),
    ('落', "し"),
    ('詰', "め"),
    ('話', "し"),
    ('読', "み"),
    ('買', "い"),
    ('貸', "し"),
    ('貼', "り"),
    ('起', "き"),
    ('込', "み"),
    ('返', "し"),
    ('追', "い"),
    ('送', "り"),
    ('重', "ね"),
    ('釣', "り"),
    ('閉', "じ"),
    ('開', "き"),
    ('降', "り"),
    ('食', "べ"),
    ('飲', "み"),
];
/// Nouns that such verbs stand before: 引き数, 申し込み書.
const AFTER_VERB: &str = "数物所場口手紙際値金書先元方";

const IN_COUNTS: &str = "ヶケヵカか";

fn kanji(c: char) -> bool {
    matches!(c, '\u{4e00}'..='\u{9fff}' | '々')
}
fn katakana(c: char) -> bool {
    matches!(c, 'ァ'..='ヺ' | 'ー')
}
fn hiragana(c: char) -> bool {
    matches!(c, 'ぁ'..='ゖ')
}
fn okurigana(c: char) -> Option<&'static str> {
    OKURIGANA.iter().find(|(k, _)| *k == c).map(|(_, kana)| *kana)
}
fn to_katakana(c: char) -> char {
    if hiragana(c) { char::from_u32(c as u32 + 0x60).unwrap_or(c) } else { c }
}
fn to_hiragana(c: char) -> char {
    if matches!(c, 'ァ'..='ヶ') { char::from_u32(c as u32 - 0x60).unwrap_or(c) } else { c }
}

/// The other spellings of the pieces of `text`, which is normalised; in the order of the text, at most [`MOST`].
pub(crate) fn variants(text: &str) -> Vec<Variant> {
    let mut finder = Finder {
        chars: text.chars().collect(),
        bytes: text.char_indices().map(|(at, _)| at).chain([text.len()]).collect(),
        found: Vec::new(),
    };
    for at in 0..finder.chars.len() {
        finder.long_marks(at);
        finder.small_kana(at);
        finder.counts(at);
        finder.repeated(at);
        finder.compound_verbs(at);
    }
    finder.scripts();
    let Finder { mut found, .. } = finder;
    found.sort_by(|a, b| {
        (a.range.start, a.range.end).cmp(&(b.range.start, b.range.end)).then_with(|| a.text.cmp(&b.text))
    });
    found.dedup_by(|a, b| a.range == b.range && a.text == b.text);
    found.truncate(MOST);
    found
}

struct Finder {
    chars: Vec<char>,
    /// Byte of each character, and the text's length.
    bytes: Vec<usize>,
    found: Vec<Variant>,
}

impl Finder {
    fn at(&self, i: usize) -> char {
        self.chars.get(i).copied().unwrap_or('\0')
    }

    fn before(&self, i: usize) -> char {
        i.checked_sub(1).map_or('\0', |i| self.at(i))
    }

    /// `text` in place of the characters of `range`.
    fn add(&mut self, range: core::ops::Range<usize>, text: String, weight: f32) {
        let range = self.bytes[range.start]..self.bytes[range.end];
        self.found.push(Variant { range, text, weight, last_resort: false });
    }

    /// First and last (after it) character of the run of katakana around `i`.
    fn run(&self, i: usize, is: fn(char) -> bool) -> (usize, usize) {
        let start = (0..i).rev().take_while(|&j| is(self.at(j))).last().unwrap_or(i);
        let end = (i..self.chars.len()).take_while(|&j| is(self.at(j))).last().map_or(i, |last| last + 1);
        (start, end)
    }

    /// サーバー and サーバ, インターフェース and インタフェース, フェイス and フェース, ボウル and ボール.
    fn long_marks(&mut self, i: usize) {
        let c = self.at(i);
        if !katakana(c) {
            return;
        }
        let (start, end) = self.run(i, katakana);
        let before = self.before(i);
        let long = i > start;
        if c == 'ー' {
            let last = i + 1 == end;
            // Words of three sounds and more lose the mark at their end; inside, only long compounds do, and not in their first sound.
            if i >= start + 3 && (last || end - start >= 6) {
                self.add(i..i + 1, String::new(), SPELLING);
            }
            if long && E_ROW.contains(before) {
                self.add(i..i + 1, "イ".to_owned(), SPELLING);
            }
            if long && O_ROW.contains(before) {
                self.add(i..i + 1, "ウ".to_owned(), SPELLING);
            }
            return;
        }
        if long && ((c == 'イ' && E_ROW.contains(before)) || (c == 'ウ' && O_ROW.contains(before))) {
            self.add(i..i + 1, "ー".to_owned(), SPELLING);
        }
        let next = self.at(i + 1);
        let ends = i + 1 == end || end - start >= 5;
        if i >= start + 2
            && ends
            && LONG_ENDS.contains(c)
            && next != 'ー'
            && !"ァィゥェォャュョ".contains(next)
        {
            self.add(i..i + 1, format!("{c}ー"), SPELLING);
        }
    }

    /// ウェブ and ウエブ, コンピュータ and コンピユータ, ヴァイオリン as バイオリン.
    fn small_kana(&mut self, i: usize) {
        let (c, before) = (self.at(i), self.before(i));
        for &(after, small, large) in SMALL {
            if after.contains(before) {
                if c == small {
                    self.add(i..i + 1, large.to_string(), SPELLING);
                } else if c == large {
                    self.add(i..i + 1, small.to_string(), SPELLING);
                }
            }
        }
        if c == 'ヴ' {
            let plain = match self.at(i + 1) {
                'ァ' => Some('バ'),
                'ィ' => Some('ビ'),
                'ェ' => Some('ベ'),
                'ォ' => Some('ボ'),
                _ => None,
            };
            match plain {
                Some(plain) => self.add(i..i + 2, plain.to_string(), SPELLING),
                None => self.add(i..i + 1, "ブ".to_owned(), SPELLING),
            }
        }
    }

    /// 三ヶ月, 三か月 and 三カ月.
    fn counts(&mut self, i: usize) {
        let (c, before, next) = (self.at(i), self.before(i), self.at(i + 1));
        if !IN_COUNTS.contains(c) || !kanji(next) {
            return;
        }
        let number = before.is_ascii_digit() || "一二三四五六七八九十百千数何".contains(before);
        if number || (c != 'か' && kanji(before)) {
            for other in "ヶかカケ".chars().filter(|&other| other != c) {
                self.add(i..i + 1, other.to_string(), SPELLING);
            }
        }
    }

    /// 人々 and 人人.
    fn repeated(&mut self, i: usize) {
        let (c, before) = (self.at(i), self.before(i));
        if kanji(before) && before != '々' {
            if c == '々' {
                self.add(i..i + 1, before.to_string(), SPELLING);
            } else if c == before {
                self.add(i..i + 1, "々".to_owned(), SPELLING);
            }
        }
    }

    /// 取り扱い, 取扱い and 取扱.
    fn compound_verbs(&mut self, i: usize) {
        let c = self.at(i);
        let Some(kana) = okurigana(c) else { return };
        let one = kana.chars().next().unwrap_or_default();
        // The second part, with or without the kana of the first between.
        let (full, j) = if self.at(i + 1) == one { (true, i + 2) } else { (false, i + 1) };
        let second = self.at(j);
        let tail = okurigana(second).and_then(|kana| kana.chars().next());
        if tail.is_none() && !(full && AFTER_VERB.contains(second)) {
            return;
        }
        let closed = tail.is_some_and(|tail| self.at(j + 1) == tail);
        let free = !hiragana(self.at(j + 1));
        if full {
            self.add(i + 1..j, String::new(), SPELLING);
            if closed {
                self.add(i..j + 2, format!("{c}{second}"), SPELLING);
            }
        } else {
            self.add(i..j + 1, format!("{c}{one}{second}"), SPELLING);
            if let (Some(tail), true) = (tail, free) {
                self.add(i..j + 1, format!("{c}{one}{second}{tail}"), SPELLING);
                self.add(i..j + 1, format!("{c}{second}{tail}"), SPELLING);
            }
        }
    }

    /// Whole words in the other kana, and Latin letters as kana.
    fn scripts(&mut self) {
        let mut i = 0;
        while i < self.chars.len() {
            let c = self.at(i);
            if hiragana(c) {
                let (start, end) = self.run(i, |c| hiragana(c) || c == 'ー');
                let alone = |c: char| !kanji(c) && !katakana(c) && !c.is_alphanumeric();
                // Among kanji, hiragana are endings and particles; standing alone, a word.
                if (3..=12).contains(&(end - start)) && alone(self.before(start)) && alone(self.at(end)) {
                    let text = self.chars[start..end].iter().map(|&c| to_katakana(c)).collect();
                    self.add(start..end, text, SCRIPT);
                }
                i = end;
            } else if katakana(c) {
                let (start, end) = self.run(i, katakana);
                let word = &self.chars[start..end];
                if (2..=6).contains(&word.len()) && !word.iter().any(|c| "ーヴァィゥェォ".contains(*c))
                {
                    let text = word.iter().map(|&c| to_hiragana(c)).collect();
                    self.add(start..end, text, SCRIPT);
                }
                i = end;
            } else if c.is_ascii_lowercase() {
                let (start, end) = self.run(i, |c| c.is_ascii_lowercase() || matches!(c, '-' | '\''));
                self.latin(start, end);
                i = end;
            } else {
                i += 1;
            }
        }
    }

    fn latin(&mut self, start: usize, end: usize) {
        let neighbour = |c: char| c.is_alphanumeric();
        if end - start < 4 || neighbour(self.before(start)) || neighbour(self.at(end)) {
            return;
        }
        let letters: String = self.chars[start..end].iter().collect();
        let (Some(long), Some(plain)) = (romaji::katakana(&letters, true), romaji::katakana(&letters, false))
        else {
            return;
        };
        if plain.chars().count() < 2 {
            return;
        }
        let range = self.bytes[start]..self.bytes[end];
        let hiragana: String = plain.chars().map(to_hiragana).collect();
        for text in [long, hiragana] {
            self.found.push(Variant { range: range.clone(), text, weight: SCRIPT, last_resort: true });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shirube_text::{Normalizer, Rules};

    /// The whole query in each other spelling.
    fn spellings(text: &str) -> Vec<String> {
        let text = Normalizer::new(Rules::Shirube1).normalize(text).text;
        variants(&text)
            .iter()
            .map(|v| format!("{}{}{}", &text[..v.range.start], v.text, &text[v.range.end..]))
            .collect()
    }

    #[test]
    fn other_spellings_of_a_word_are_found() {
        for (typed, other) in [
            ("サーバー", "サーバ"),
            ("ｻｰﾊﾞｰ", "サーバ"),
            ("サーバの設定", "サーバーの設定"),
            ("サーバコンポーネント", "サーバーコンポーネント"),
            ("サーバーコンポーネント", "サーバコンポーネント"),
            ("インターフェース", "インタフェース"),
            ("インタフェース", "インターフェース"),
            ("インターフェース", "インターフェイス"),
            ("インターフェイス", "インターフェース"),
            ("パラメーターの型", "パラメータの型"),
            ("ウェブ", "ウエブ"),
            ("ウエブ", "ウェブ"),
            ("コンピユータ", "コンピュータ"),
            ("ヴァイオリン", "バイオリン"),
            ("三ヶ月", "三か月"),
            ("3か月", "3ヶ月"),
            ("人々", "人人"),
            ("取り扱い", "取扱い"),
            ("取り扱い", "取扱"),
            ("取扱", "取り扱い"),
            ("引き数", "引数"),
            ("申込書", "申し込み書"),
            ("こんぽーねんと", "コンポーネント"),
            ("リンゴ", "りんご"),
            ("konpo-nento", "コンポーネント"),
            ("KONPO-NENTO", "コンポーネント"),
            ("sushi", "すし"),
        ] {
            assert!(spellings(typed).iter().any(|s| s == other), "{typed}: {:?}", spellings(typed));
        }
    }

    #[test]
    fn words_that_only_look_alike_are_left_apart() {
        for (typed, never) in [
            ("カギ", "カキ"),
            ("ビール", "ビル"),
            ("コピー", "コピ"),
            ("きょう", "きよう"),
            ("状態を更新する", "状態ヲ更新スル"),
            ("誰か来る", "誰ヶ来る"),
        ] {
            assert!(spellings(typed).iter().all(|s| s != never), "{typed}: {:?}", spellings(typed));
        }
        for plain in ["javascript", "css", "状態管理", "配列から条件に合うものだけ取り出す", ""]
        {
            let found = spellings(plain);
            assert!(found.len() <= 2, "{plain}: {found:?}");
        }
    }
}
