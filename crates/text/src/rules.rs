//! The rule table of the normaliser `shirube-1`.
//!
//! A rule table is frozen: model, tokenizer and index are made with it. A change is a new version with a new name, and
//! the old one stays readable. `shirube-1` is, in this order:
//!
//! 1. **Invisible characters go**: control characters that are not blanks, zero-width characters, direction marks, the byte
//!    order mark, soft hyphens, Hangul fillers, variation selectors, tag characters ([`is_invisible`]).
//! 2. **NFKC**, with four differences: lone ゛ and ゜ stay (NFKC makes each a blank and a combining mark); letters are
//!    lower-cased by simple case mapping between decomposition and composition; old and variant kanji become today's
//!    ([`modern_kanji`]); wave dashes and ASCII `~` become `~` ([`is_wave_dash`]). Dakuten and handakuten always stay.
//! 3. **Blank runs**, line breaks included, become one blank; blanks at both ends go.
//! 4. **A dash used as a long mark** becomes ー: one dash ([`is_dash`]) after katakana, or one ‐ or − after hiragana. Two
//!    dashes in a row are punctuation (である――) and stay, as does an em dash after hiragana. Every other hyphen, minus,
//!    figure or en dash becomes the ASCII hyphen ([`is_hyphen`]): Wi‑Fi, 2010–2020.
//! 5. **Runs of ー** become one ー.
//! 6. **Iteration marks** ゝゞヽヾ become the kana they repeat. 々 stays: it is part of words' spelling.

/// Whether rule 1 removes `c`.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(c,
        '\0'..='\u{8}' | '\u{e}'..='\u{1f}' | '\u{7f}'..='\u{84}' | '\u{86}'..='\u{9f}'
        | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Blanks, in every rule table: what separates words and never becomes a token.
pub(crate) fn is_blank(c: char) -> bool {
    matches!(c,
        '\t'..='\r' | ' ' | '\u{85}' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{2028}' | '\u{2029}'
        | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

/// Dashes that stand for ー after kana: hyphen, non-breaking hyphen, figure, en and em dash, horizontal bar, minus.
/// The ASCII hyphen is not one: `A-Z` and ア-オ are ranges.
pub(crate) fn is_dash(c: char) -> bool {
    matches!(c, '\u{2010}'..='\u{2015}' | '\u{2212}')
}

/// The dashes that input methods produce for ー, taken as ー after hiragana too.
pub(crate) fn is_short_dash(c: char) -> bool {
    matches!(c, '\u{2010}' | '\u{2011}' | '\u{2212}')
}

/// Dashes that become the ASCII hyphen where they are no long mark: all of [`is_dash`] but em dash and horizontal bar.
pub(crate) fn is_hyphen(c: char) -> bool {
    matches!(c, '\u{2010}'..='\u{2013}' | '\u{2212}')
}

/// Wave dash, tilde operator, inverted lazy S, wavy dash; the full-width tilde is `~` by NFKC already.
pub(crate) fn is_wave_dash(c: char) -> bool {
    matches!(c, '\u{301c}' | '\u{223c}' | '\u{223e}' | '\u{3030}')
}

/// The kana that iteration mark `mark` stands for after `previous`; `None` where it repeats nothing.
pub(crate) fn repeated_kana(previous: char, mark: char) -> Option<char> {
    let (voiced, katakana) = match mark {
        'ゝ' => (false, false),
        'ゞ' => (true, false),
        'ヽ' => (false, true),
        'ヾ' => (true, true),
        _ => return None,
    };
    let fits = if katakana { matches!(previous, 'ァ'..='ヺ') } else { matches!(previous, 'ぁ'..='ゖ') };
    if !fits {
        return None;
    }
    let plain = unvoiced(previous);
    Some(if voiced { with_dakuten(plain) } else { plain })
}

/// Rows か to と and は, where voiced kana follow their plain ones; offset 0x60 leads from hiragana to katakana.
fn unvoiced(c: char) -> char {
    let hiragana = if matches!(c, 'ァ'..='ヺ') { shift(c, -0x60) } else { c };
    let step = match hiragana {
        'が' | 'ぎ' | 'ぐ' | 'げ' | 'ご' | 'ざ' | 'じ' | 'ず' | 'ぜ' | 'ぞ' | 'だ' | 'ぢ' | 'づ' | 'で'
        | 'ど' | 'ば' | 'び' | 'ぶ' | 'べ' | 'ぼ' => -1,
        'ぱ' | 'ぴ' | 'ぷ' | 'ぺ' | 'ぽ' => -2,
        _ => 0,
    };
    shift(c, step)
}

fn with_dakuten(c: char) -> char {
    let hiragana = if matches!(c, 'ァ'..='ヺ') { shift(c, -0x60) } else { c };
    let step = match hiragana {
        'か' | 'き' | 'く' | 'け' | 'こ' | 'さ' | 'し' | 'す' | 'せ' | 'そ' | 'た' | 'ち' | 'つ' | 'て'
        | 'と' | 'は' | 'ひ' | 'ふ' | 'へ' | 'ほ' => 1,
        _ => 0,
    };
    shift(c, step)
}

fn shift(c: char, by: i32) -> char {
    u32::try_from(c as i32 + by).ok().and_then(char::from_u32).unwrap_or(c)
}

/// Today's form of an old or variant kanji; any other character as it is.
pub(crate) fn modern_kanji(c: char) -> char {
    if !matches!(c, '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}') {
        return c;
    }
    match KANJI.binary_search_by_key(&c, |&(old, _)| old) {
        Ok(at) => KANJI[at].1,
        Err(_) => c,
    }
}

/// Old (kyūjitai) and variant forms with today's form, sorted by the old form. Only pairs where the old form has no
/// meaning of its own in today's Japanese.
#[rustfmt::skip]
const KANJI: &[(char, char)] = &[
    ('㐂', '喜'), ('乘', '乗'), ('亂', '乱'), ('亞', '亜'), ('佛', '仏'), ('來', '来'), ('倂', '併'), ('假', '仮'), ('傳', '伝'), ('僞', '偽'),
    ('價', '価'), ('儉', '倹'), ('兒', '児'), ('兔', '兎'), ('內', '内'), ('兩', '両'), ('冨', '富'), ('冰', '氷'), ('冲', '沖'), ('决', '決'),
    ('况', '況'), ('凉', '涼'), ('减', '減'), ('凖', '準'), ('剝', '剥'), ('剩', '剰'), ('劍', '剣'), ('劎', '剣'), ('劑', '剤'), ('劒', '剣'),
    ('劔', '剣'), ('勛', '勲'), ('勞', '労'), ('勳', '勲'), ('勵', '励'), ('勸', '勧'), ('區', '区'), ('卆', '卒'), ('卷', '巻'), ('卻', '却'),
    ('卽', '即'), ('參', '参'), ('吳', '呉'), ('咏', '詠'), ('單', '単'), ('嚙', '噛'), ('嚴', '厳'), ('囑', '嘱'), ('囘', '回'), ('囬', '回'),
    ('圈', '圏'), ('國', '国'), ('圍', '囲'), ('圓', '円'), ('圖', '図'), ('團', '団'), ('埜', '野'), ('堯', '尭'), ('塡', '填'), ('增', '増'),
    ('墮', '堕'), ('壓', '圧'), ('壘', '塁'), ('壞', '壊'), ('壤', '壌'), ('壯', '壮'), ('壹', '壱'), ('壻', '婿'), ('壽', '寿'), ('奧', '奥'),
    ('奬', '奨'), ('姊', '姉'), ('姙', '妊'), ('姸', '妍'), ('娛', '娯'), ('媿', '愧'), ('孃', '嬢'), ('學', '学'), ('寢', '寝'), ('實', '実'),
    ('寫', '写'), ('寬', '寛'), ('寳', '宝'), ('寶', '宝'), ('將', '将'), ('專', '専'), ('對', '対'), ('屆', '届'), ('屛', '屏'), ('屬', '属'),
    ('峩', '峨'), ('峯', '峰'), ('峽', '峡'), ('嵜', '崎'), ('嶋', '島'), ('嶌', '島'), ('嶽', '岳'), ('巔', '巓'), ('巖', '巌'), ('巢', '巣'),
    ('帶', '帯'), ('幷', '并'), ('廏', '厩'), ('廐', '厩'), ('廢', '廃'), ('廣', '広'), ('廳', '庁'), ('强', '強'), ('彈', '弾'), ('彌', '弥'),
    ('彥', '彦'), ('徃', '往'), ('徑', '径'), ('從', '従'), ('徵', '徴'), ('德', '徳'), ('恆', '恒'), ('恊', '協'), ('悅', '悦'), ('惠', '恵'),
    ('惡', '悪'), ('惱', '悩'), ('愼', '慎'), ('慘', '惨'), ('慙', '慚'), ('應', '応'), ('懷', '懐'), ('戀', '恋'), ('戰', '戦'), ('戲', '戯'),
    ('戶', '戸'), ('戾', '戻'), ('拂', '払'), ('拔', '抜'), ('拜', '拝'), ('挾', '挟'), ('插', '挿'), ('揭', '掲'), ('揷', '挿'), ('搔', '掻'),
    ('搖', '揺'), ('搜', '捜'), ('摑', '掴'), ('擇', '択'), ('擊', '撃'), ('擔', '担'), ('據', '拠'), ('擧', '挙'), ('擴', '拡'), ('攜', '携'),
    ('攝', '摂'), ('攪', '撹'), ('收', '収'), ('效', '効'), ('敍', '叙'), ('敎', '教'), ('敕', '勅'), ('敘', '叙'), ('數', '数'), ('斷', '断'),
    ('旣', '既'), ('晄', '晃'), ('晉', '晋'), ('晝', '昼'), ('曆', '暦'), ('曉', '暁'), ('曻', '昇'), ('曾', '曽'), ('會', '会'), ('杤', '栃'),
    ('栁', '柳'), ('栢', '柏'), ('桒', '桑'), ('桝', '枡'), ('桺', '柳'), ('條', '条'), ('棧', '桟'), ('榮', '栄'), ('槇', '槙'), ('槗', '橋'),
    ('槪', '概'), ('樂', '楽'), ('樓', '楼'), ('樞', '枢'), ('樣', '様'), ('橫', '横'), ('檢', '検'), ('檮', '梼'), ('櫻', '桜'), ('權', '権'),
    ('欵', '款'), ('歐', '欧'), ('歡', '歓'), ('步', '歩'), ('歲', '歳'), ('歷', '歴'), ('歸', '帰'), ('殘', '残'), ('殼', '殻'), ('毆', '殴'),
    ('每', '毎'), ('毗', '毘'), ('氣', '気'), ('汙', '汚'), ('沒', '没'), ('淚', '涙'), ('淨', '浄'), ('淸', '清'), ('淺', '浅'), ('渊', '淵'),
    ('渕', '淵'), ('渴', '渇'), ('溪', '渓'), ('溫', '温'), ('滯', '滞'), ('滿', '満'), ('潅', '灌'), ('潑', '溌'), ('潛', '潜'), ('澁', '渋'),
    ('澤', '沢'), ('濕', '湿'), ('濟', '済'), ('濱', '浜'), ('濵', '浜'), ('濶', '闊'), ('瀆', '涜'), ('瀧', '滝'), ('瀨', '瀬'), ('灣', '湾'),
    ('焰', '焔'), ('煑', '煮'), ('燈', '灯'), ('燒', '焼'), ('營', '営'), ('爐', '炉'), ('爭', '争'), ('爲', '為'), ('犧', '犠'), ('狀', '状'),
    ('狹', '狭'), ('獨', '独'), ('獵', '猟'), ('獸', '獣'), ('獻', '献'), ('瓣', '弁'), ('甁', '瓶'), ('產', '産'), ('畫', '画'), ('畵', '画'),
    ('當', '当'), ('疊', '畳'), ('瘦', '痩'), ('癡', '痴'), ('發', '発'), ('盖', '蓋'), ('盜', '盗'), ('盡', '尽'), ('眞', '真'), ('眾', '衆'),
    ('硏', '研'), ('碎', '砕'), ('礒', '磯'), ('礦', '鉱'), ('祕', '秘'), ('祿', '禄'), ('禪', '禅'), ('禮', '礼'), ('禱', '祷'), ('稅', '税'),
    ('稱', '称'), ('稻', '稲'), ('穐', '秋'), ('穗', '穂'), ('穩', '穏'), ('穰', '穣'), ('竊', '窃'), ('竒', '奇'), ('竝', '並'), ('竸', '競'),
    ('篭', '籠'), ('簞', '箪'), ('籏', '旗'), ('粹', '粋'), ('糓', '穀'), ('絋', '紘'), ('絕', '絶'), ('絲', '糸'), ('經', '経'), ('綠', '緑'),
    ('綫', '線'), ('緖', '緒'), ('緜', '綿'), ('緣', '縁'), ('縣', '県'), ('縱', '縦'), ('總', '総'), ('繡', '繍'), ('繩', '縄'), ('繪', '絵'),
    ('繫', '繋'), ('繼', '継'), ('續', '続'), ('纎', '繊'), ('纖', '繊'), ('缺', '欠'), ('罐', '缶'), ('罸', '罰'), ('羣', '群'), ('羮', '羹'),
    ('翆', '翠'), ('耻', '恥'), ('聰', '聡'), ('聲', '声'), ('聽', '聴'), ('肅', '粛'), ('脉', '脈'), ('脫', '脱'), ('腦', '脳'), ('膽', '胆'),
    ('臟', '臓'), ('臺', '台'), ('與', '与'), ('舉', '挙'), ('舊', '旧'), ('舍', '舎'), ('舖', '舗'), ('舘', '館'), ('舩', '船'), ('艷', '艶'),
    ('苅', '刈'), ('莊', '荘'), ('莖', '茎'), ('萊', '莱'), ('萬', '万'), ('葢', '蓋'), ('蔣', '蒋'), ('蔥', '葱'), ('蕚', '萼'), ('薰', '薫'),
    ('藏', '蔵'), ('藝', '芸'), ('藥', '薬'), ('處', '処'), ('虛', '虚'), ('號', '号'), ('虵', '蛇'), ('螢', '蛍'), ('蟲', '虫'), ('蠅', '蝿'),
    ('蠟', '蝋'), ('蠶', '蚕'), ('蠻', '蛮'), ('衂', '衄'), ('衞', '衛'), ('裝', '装'), ('覊', '羈'), ('覺', '覚'), ('覽', '覧'), ('觀', '観'),
    ('觸', '触'), ('說', '説'), ('諫', '諌'), ('謠', '謡'), ('證', '証'), ('譌', '訛'), ('譯', '訳'), ('譽', '誉'), ('讀', '読'), ('變', '変'),
    ('讓', '譲'), ('讚', '讃'), ('豎', '竪'), ('豐', '豊'), ('豔', '艶'), ('豫', '予'), ('貎', '貌'), ('貭', '質'), ('貳', '弐'), ('賍', '贓'),
    ('賎', '賤'), ('賣', '売'), ('賴', '頼'), ('贊', '賛'), ('贒', '賢'), ('踐', '践'), ('躰', '体'), ('軆', '体'), ('輕', '軽'), ('轉', '転'),
    ('辧', '弁'), ('辨', '弁'), ('辭', '辞'), ('辯', '弁'), ('迯', '逃'), ('逹', '達'), ('遙', '遥'), ('遞', '逓'), ('遲', '遅'), ('邉', '辺'),
    ('邊', '辺'), ('邨', '村'), ('郞', '郎'), ('鄉', '郷'), ('鄕', '郷'), ('鄰', '隣'), ('酧', '酬'), ('醉', '酔'), ('醫', '医'), ('醬', '醤'),
    ('醱', '醗'), ('醻', '酬'), ('釀', '醸'), ('釋', '釈'), ('釡', '釜'), ('釼', '剣'), ('鈆', '鉛'), ('銕', '鉄'), ('銳', '鋭'), ('鋪', '舗'),
    ('錄', '録'), ('錢', '銭'), ('鍊', '錬'), ('鎭', '鎮'), ('鐡', '鉄'), ('鐵', '鉄'), ('鑄', '鋳'), ('鑛', '鉱'), ('鑵', '缶'), ('閱', '閲'),
    ('關', '関'), ('陷', '陥'), ('隂', '陰'), ('隨', '随'), ('險', '険'), ('隱', '隠'), ('隸', '隷'), ('雙', '双'), ('雜', '雑'), ('霸', '覇'),
    ('靈', '霊'), ('靑', '青'), ('靜', '静'), ('頰', '頬'), ('頴', '穎'), ('顏', '顔'), ('顚', '顛'), ('顯', '顕'), ('飃', '飄'), ('飜', '翻'),
    ('飮', '飲'), ('餘', '余'), ('餝', '飾'), ('餠', '餅'), ('騷', '騒'), ('驅', '駆'), ('驗', '験'), ('驛', '駅'), ('髓', '髄'), ('體', '体'),
    ('髙', '高'), ('髮', '髪'), ('鬪', '闘'), ('鬭', '闘'), ('鰛', '鰮'), ('鱉', '鼈'), ('鴈', '雁'), ('鷄', '鶏'), ('鷗', '鴎'), ('鹼', '鹸'),
    ('鹽', '塩'), ('麥', '麦'), ('麪', '麺'), ('麴', '麹'), ('麵', '麺'), ('麸', '麩'), ('黃', '黄'), ('黑', '黒'), ('默', '黙'), ('點', '点'),
    ('黨', '党'), ('齊', '斉'), ('齋', '斎'), ('齒', '歯'), ('齡', '齢'), ('龍', '竜'), ('龜', '亀'), ('龝', '秋'), ('﨑', '崎'), ('﨟', '臈'),
    ('𠮷', '吉'),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kanji_table_is_sorted_and_leads_to_its_end_in_one_step() {
        assert!(KANJI.is_sorted_by(|a, b| a.0 < b.0));
        for &(old, new) in KANJI {
            assert_eq!(modern_kanji(old), new);
            assert_eq!(modern_kanji(new), new, "{old} leads to {new}, which leads on");
        }
    }
}
