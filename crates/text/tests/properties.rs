//! Properties that hold for every text.

use proptest::prelude::*;
use shirube_core::{Expansion, ExpansionRule, InputRules};
use shirube_text::{EncoderInput, Normalized, Normalizer, Rules, Script, Tokenizer, script, script_runs};
use std::sync::LazyLock;

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pkg/model/tokenizer.bin");
    Tokenizer::from_bytes(&std::fs::read(path).expect("the shipped tokenizer is there")).expect("it opens")
});

/// Text that leans to what rules touch: kana, marks, dashes, blanks, half-width forms, old kanji, invisible characters.
fn text() -> impl Strategy<Value = String> {
    let c = prop_oneof![
        4 => prop::sample::select("かがはばハパーｰ‐−―—–-〜～~ゝゞヽヾ々゛゜ﾞﾟﾊｶ\u{3099}\u{309a}\u{301}\u{323}\u{338} \t\n　".chars().collect::<Vec<_>>()),
        3 => prop::sample::select("東京都の知事選挙舊國邊﨑髙ソフトウェアデータabcXYZH\u{331}é09.,、。「」🍣👨\u{200d}\u{fe0f}\u{200b}㍿½ﬃ각ᄀ\u{1161}\u{11a8}".chars().collect::<Vec<_>>()),
        2 => proptest::char::range('\u{3000}', '\u{30ff}'),
        1 => any::<char>(),
    ];
    let mixed = prop::collection::vec(c, 0..40);
    // Few characters, so that the sequences that matter come up: marks that block one another, marks after marks.
    let dense = prop::sample::select(vec![
        "aeH\u{301}\u{305}\u{323}\u{331}\u{338}",
        "かはゝゞ゛\u{3099}\u{309a}\u{200b}",
        "アハーｰヽヾ\u{309a}\u{3099}ﾞﾟ",
        "アあー‐—-– 一",
        "가ᄀ\u{1161}\u{11a8}\u{301}\u{323}",
    ])
    .prop_flat_map(|set| prop::collection::vec(prop::sample::select(set.chars().collect::<Vec<_>>()), 0..9));
    prop_oneof![mixed, dense].prop_map(|chars| chars.into_iter().collect())
}

fn check_spans(text: &str, normalized: &Normalized) {
    assert_eq!(normalized.spans.len(), normalized.text.chars().count());
    let mut last = (0, 0);
    for span in &normalized.spans {
        let (start, end) = (span.start as usize, span.end as usize);
        assert!(start < end && start >= last.0 && end >= last.1, "{span:?} after {last:?}");
        assert!(
            text.is_char_boundary(start) && text.is_char_boundary(end),
            "{span:?} cuts a character of {text:?}"
        );
        last = (start, end);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, rng_seed: proptest::test_runner::RngSeed::Fixed(7), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_normal_form_is_its_own_normal_form(text in text()) {
        for rules in [Rules::Shirube1, Rules::Nfkc] {
            let normalizer = Normalizer::new(rules);
            let once = normalizer.normalize(&text).text;
            prop_assert_eq!(&normalizer.normalize(&once).text, &once);
        }
    }

    #[test]
    fn spans_are_whole_characters_and_never_go_back(text in text()) {
        for rules in [Rules::Shirube1, Rules::Nfkc] {
            check_spans(&text, &Normalizer::new(rules).normalize(&text));
        }
    }

    #[test]
    fn nfkc_mode_is_the_nfkc_of_icu(text in text()) {
        let expected = icu_normalizer::ComposingNormalizer::new_nfkc().normalize(&text).into_owned();
        prop_assert_eq!(Normalizer::new(Rules::Nfkc).normalize(&text).text, expected);
    }

    #[test]
    fn shirube_1_is_in_nfkc_but_for_lone_voicing_marks(text in text()) {
        let normalized = Normalizer::new(Rules::Shirube1).normalize(&text).text;
        for part in normalized.split(['゛', '゜']) {
            let again = icu_normalizer::ComposingNormalizer::new_nfkc().normalize(part).into_owned();
            prop_assert_eq!(again, part);
        }
        prop_assert!(!normalized.starts_with(' ') && !normalized.ends_with(' ') && !normalized.contains("  "));
    }

    #[test]
    fn script_runs_cover_everything_but_blanks(text in text()) {
        let runs: String = script_runs(&text).map(|run| text[run.bytes].to_owned()).collect();
        let expected: String = text.chars().filter(|&c| script(c) != Script::Blank).collect();
        prop_assert_eq!(runs, expected);
        for run in script_runs(&text) {
            prop_assert_eq!(text[..run.bytes.start].chars().count(), run.first_char);
        }
    }

    #[test]
    fn tokens_spell_the_normal_form_and_point_into_the_text(text in text()) {
        let encoding = TOKENIZER.encode(&text);
        prop_assert_eq!(encoding.ids.len(), encoding.offsets.len());
        let mut spelled = Vec::new();
        for &id in &encoding.ids {
            prop_assert!((id as usize) < TOKENIZER.vocab_size() && id >= 6, "special token {} from text", id);
            match TOKENIZER.byte_of(id) {
                Some(byte) => spelled.push(byte),
                None => spelled.extend(TOKENIZER.piece(id).expect("an id below the size").bytes()),
            }
        }
        let normalized = TOKENIZER.normalizer().normalize(&text).text;
        let expected: String = normalized.chars().filter(|&c| script(c) != Script::Blank).collect();
        prop_assert_eq!(String::from_utf8(spelled).expect("whole characters"), expected);
        let mut last = (0, 0);
        for span in &encoding.offsets {
            prop_assert!(span.start < span.end && span.start >= last.0 && span.end >= last.1);
            prop_assert!(text.get(span.range()).is_some(), "{:?} cuts a character", span);
            last = (span.start, span.end);
        }
    }

    #[test]
    fn inputs_keep_markers_and_lengths(text in text(), max_length in 0usize..40, rule in 0usize..4) {
        let rules = [None, Some(ExpansionRule::Fixed), Some(ExpansionRule::DynamicPaper), Some(ExpansionRule::DynamicEvaluator)];
        let rules = InputRules {
            prefix: vec![3],
            suffix: vec![5],
            max_length,
            expansion: rules[rule].map(|rule| Expansion { token: 2, attend: false, rule }),
            skip: vec![5],
            ..InputRules::default()
        };
        let input = EncoderInput::new(&TOKENIZER, &rules, &text);
        let n_text = TOKENIZER.encode(&text).ids.len();
        prop_assert!(input.ids.len() <= max_length.max(2) && input.n_real <= input.ids.len());
        prop_assert_eq!((input.ids[0], input.ids[input.n_real - 1]), (3, 5));
        prop_assert_eq!(input.n_real, 2 + n_text.min(max_length.saturating_sub(2)));
        prop_assert_eq!(input.truncated, n_text > max_length.saturating_sub(2));
        prop_assert!(input.ids[input.n_real..].iter().all(|&id| id == 2));
        prop_assert_eq!(input.offsets.len(), input.ids.len());
        prop_assert_eq!(input.offsets.iter().flatten().count(), input.n_real - 2);
        prop_assert_eq!(input.kept().collect::<Vec<_>>(), (0..input.ids.len()).filter(|&at| at != input.n_real - 1).collect::<Vec<_>>());
    }
}

#[test]
fn very_long_texts_of_one_kind_are_tokenised_whole() {
    for text in ["", "ア", "漢", "a", "🍣", "か\u{3099}", " ", "ー", "\u{3099}", "\u{323}\u{301}", "ゝ"]
        .map(|s| s.repeat(100_000))
    {
        let encoding = TOKENIZER.encode(&text);
        check_spans(&text, &TOKENIZER.normalizer().normalize(&text));
        assert!(encoding.offsets.last().is_none_or(|span| span.end as usize <= text.len()));
    }
}
