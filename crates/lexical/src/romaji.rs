//! Kana typed in Latin letters.

/// Syllables of one consonant (or cluster) with a, i, u, e, o, as input methods take them; `・` where there is none.
const ROWS: &[(&str, [&str; 5])] = &[
    ("", ["ア", "イ", "ウ", "エ", "オ"]),
    ("k", ["カ", "キ", "ク", "ケ", "コ"]),
    ("c", ["カ", "・", "ク", "・", "コ"]),
    ("s", ["サ", "シ", "ス", "セ", "ソ"]),
    ("t", ["タ", "チ", "ツ", "テ", "ト"]),
    ("n", ["ナ", "ニ", "ヌ", "ネ", "ノ"]),
    ("h", ["ハ", "ヒ", "フ", "ヘ", "ホ"]),
    ("m", ["マ", "ミ", "ム", "メ", "モ"]),
    ("y", ["ヤ", "・", "ユ", "イェ", "ヨ"]),
    ("r", ["ラ", "リ", "ル", "レ", "ロ"]),
    ("w", ["ワ", "ウィ", "・", "ウェ", "ヲ"]),
    ("g", ["ガ", "ギ", "グ", "ゲ", "ゴ"]),
    ("z", ["ザ", "ジ", "ズ", "ゼ", "ゾ"]),
    ("j", ["ジャ", "ジ", "ジュ", "ジェ", "ジョ"]),
    ("d", ["ダ", "ヂ", "ヅ", "デ", "ド"]),
    ("b", ["バ", "ビ", "ブ", "ベ", "ボ"]),
    ("p", ["パ", "ピ", "プ", "ペ", "ポ"]),
    ("f", ["ファ", "フィ", "フ", "フェ", "フォ"]),
    ("v", ["ヴァ", "ヴィ", "ヴ", "ヴェ", "ヴォ"]),
    ("sh", ["シャ", "シ", "シュ", "シェ", "ショ"]),
    ("ch", ["チャ", "チ", "チュ", "チェ", "チョ"]),
    ("ts", ["ツァ", "ツィ", "ツ", "ツェ", "ツォ"]),
    ("th", ["テャ", "ティ", "テュ", "テェ", "テョ"]),
    ("dh", ["デャ", "ディ", "デュ", "デェ", "デョ"]),
    ("wh", ["ウァ", "ウィ", "ウ", "ウェ", "ウォ"]),
    ("kw", ["クァ", "クィ", "・", "クェ", "クォ"]),
    ("ky", ["キャ", "・", "キュ", "・", "キョ"]),
    ("gy", ["ギャ", "・", "ギュ", "・", "ギョ"]),
    ("sy", ["シャ", "・", "シュ", "シェ", "ショ"]),
    ("zy", ["ジャ", "・", "ジュ", "ジェ", "ジョ"]),
    ("jy", ["ジャ", "・", "ジュ", "ジェ", "ジョ"]),
    ("ty", ["チャ", "・", "チュ", "チェ", "チョ"]),
    ("cy", ["チャ", "・", "チュ", "チェ", "チョ"]),
    ("dy", ["ヂャ", "・", "ヂュ", "・", "ヂョ"]),
    ("ny", ["ニャ", "・", "ニュ", "・", "ニョ"]),
    ("hy", ["ヒャ", "・", "ヒュ", "・", "ヒョ"]),
    ("by", ["ビャ", "・", "ビュ", "・", "ビョ"]),
    ("py", ["ピャ", "・", "ピュ", "・", "ピョ"]),
    ("my", ["ミャ", "・", "ミュ", "・", "ミョ"]),
    ("ry", ["リャ", "・", "リュ", "・", "リョ"]),
    ("fy", ["フャ", "・", "フュ", "・", "フョ"]),
    ("tw", ["・", "・", "トゥ", "・", "・"]),
    ("dw", ["・", "・", "ドゥ", "・", "・"]),
];

const VOWELS: [char; 5] = ['a', 'i', 'u', 'e', 'o'];

/// The katakana that `letters` (a to z in lower case, `-` for a long mark, `'` after n) spell; `None` where they spell none. Hepburn and
/// Kunrei spellings and those of input methods are read; a doubled vowel becomes a long mark where `long` says so (`saabaa` as サーバー).
pub(crate) fn katakana(letters: &str, long: bool) -> Option<String> {
    let chars: Vec<char> = letters.chars().collect();
    let mut out = String::new();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let next = chars.get(at + 1).copied();
        if c == '-' {
            out.chars().next_back()?;
            out.push('ー');
            at += 1;
            continue;
        }
        if long && at > 0 && VOWELS.contains(&c) && chars[at - 1] == c {
            out.push('ー');
            at += 1;
            continue;
        }
        // ン: n before a consonant or the end, n' and nn, and m before b, m, p (shimbun).
        if c == 'n' && !next.is_some_and(|n| VOWELS.contains(&n) || n == 'y') {
            out.push('ン');
            at += match (next, chars.get(at + 2)) {
                (Some('\''), _) => 2,
                // konna is コンナ, konn is コン.
                (Some('n'), after) if !after.is_some_and(|a| VOWELS.contains(a) || *a == 'y') => 2,
                _ => 1,
            };
            continue;
        }
        if c == 'm' && next.is_some_and(|n| matches!(n, 'b' | 'p' | 'm')) {
            out.push('ン');
            at += 1;
            continue;
        }
        let doubled = next == Some(c) || (c == 't' && next == Some('c'));
        if doubled && c.is_ascii_lowercase() && !VOWELS.contains(&c) {
            out.push('ッ');
            at += 1;
            continue;
        }
        // The longest cluster first: two consonants, one, none.
        let syllable = (0..=2).rev().find_map(|n| {
            let cluster: String = chars.get(at..at + n)?.iter().collect();
            let vowel = VOWELS.iter().position(|v| chars.get(at + n) == Some(v))?;
            let (_, row) = ROWS.iter().find(|(consonants, _)| *consonants == cluster)?;
            (row[vowel] != "・").then_some((row[vowel], n + 1))
        });
        let (kana, n) = syllable?;
        out.push_str(kana);
        at += n;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::katakana;

    #[test]
    fn spellings_of_hepburn_kunrei_and_input_methods_are_read() {
        for (letters, kana) in [
            ("konpo-nento", "コンポーネント"),
            ("komponento", "コンポネント"),
            ("saabaa", "サーバー"),
            ("sa-ba-", "サーバー"),
            ("matchi", "マッチ"),
            ("kitte", "キッテ"),
            ("kon'ya", "コンヤ"),
            ("konnichiwa", "コンニチワ"),
            ("shinbunn", "シンブン"),
            ("syatyou", "シャチョウ"),
            ("pa-thi-", "パーティー"),
            ("dyisuku", ""),
            ("javascript", ""),
            ("-a", ""),
            ("l", ""),
        ] {
            assert_eq!(katakana(letters, true).unwrap_or_default(), kana, "{letters}");
        }
        assert_eq!(katakana("saabaa", false).as_deref(), Some("サアバア"));
    }
}
