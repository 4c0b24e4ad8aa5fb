//! Bytes of a page to text.
//!
//! A byte order mark decides. Text that is valid UTF-8 with a character outside ASCII is UTF-8, whatever the page declares: chance makes no long
//! Shift_JIS text valid UTF-8, and pages that were converted often keep their old declaration. Then the declaration in the first 1,024 bytes
//! holds, then a guess from the bytes.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, ISO_2022_JP, UTF_8};

/// How far a declaration is looked for: what the HTML standard asks of browsers.
const PRESCAN_BYTES: usize = 1024;

/// `bytes` as text, and the name of the encoding found. Bytes that the encoding does not know become U+FFFD.
pub(crate) fn decode(bytes: &[u8]) -> (String, &'static str) {
    let encoding = find(bytes);
    // The decoder takes a byte order mark away itself.
    let (text, used, _) = encoding.decode(bytes);
    (text.into_owned(), used.name())
}

fn find(bytes: &[u8]) -> &'static Encoding {
    if let Some((encoding, _)) = Encoding::for_bom(bytes) {
        return encoding;
    }
    let declared = declared(&bytes[..bytes.len().min(PRESCAN_BYTES)]);
    // ISO-2022-JP is written in ASCII bytes alone, so it is valid UTF-8 as well.
    let escapes = bytes.contains(&0x1b);
    if std::str::from_utf8(bytes).is_ok() && !(escapes && declared.is_none_or(|d| d == ISO_2022_JP)) {
        return UTF_8;
    }
    if let Some(declared) = declared.filter(|d| *d != UTF_8) {
        return declared;
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    detector.feed(bytes, true);
    detector.guess(Some(b"jp"), Utf8Detection::Allow)
}

/// The encoding that `<meta charset>`, `<meta http-equiv>` or an XML declaration names.
fn declared(head: &[u8]) -> Option<&'static Encoding> {
    let head = head.to_ascii_lowercase();
    let mut rest = &head[..];
    loop {
        let at = ["charset", "encoding"]
            .iter()
            .filter_map(|word| Some((find_bytes(rest, word.as_bytes())?, word.len())))
            .min()?;
        rest = &rest[at.0 + at.1..];
        let value = rest.trim_ascii_start().strip_prefix(b"=").map(<[u8]>::trim_ascii_start);
        let Some(value) = value else { continue };
        let value = value.trim_prefix_of(b"\"'");
        let end = value
            .iter()
            .position(|b| !(b.is_ascii_alphanumeric() || b"-_:.".contains(b)))
            .unwrap_or(value.len());
        if let Some(encoding) = Encoding::for_label(&value[..end]) {
            // A page that can be read as ASCII this far is not UTF-16, whatever it says.
            let utf16 = encoding.name().starts_with("UTF-16");
            return Some(if utf16 { UTF_8 } else { encoding });
        }
    }
}

trait TrimPrefixOf {
    fn trim_prefix_of(&self, any: &[u8]) -> &[u8];
}

impl TrimPrefixOf for [u8] {
    fn trim_prefix_of(&self, any: &[u8]) -> &[u8] {
        self.split_first().filter(|(first, _)| any.contains(first)).map_or(self, |(_, rest)| rest)
    }
}

fn find_bytes(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use encoding_rs::{EUC_JP, SHIFT_JIS};

    const TEXT: &str = "日本語の文書を検索する。カタカナとひらがなが混ざった文章です。";

    #[test]
    fn every_japanese_encoding_is_read_with_and_without_a_declaration() {
        for (encoding, label) in
            [(SHIFT_JIS, "Shift_JIS"), (EUC_JP, "euc-jp"), (UTF_8, "utf-8"), (ISO_2022_JP, "iso-2022-jp")]
        {
            for head in [
                format!("<meta charset=\"{label}\">"),
                format!("<META http-equiv=Content-Type content='text/html; charset={label}'>"),
                format!("<?xml version=\"1.0\" encoding='{label}'?>"),
                "<title>題</title>".to_owned(),
            ] {
                let page = format!("{head}<p>{TEXT}");
                let (bytes, _, _) = encoding.encode(&page);
                assert_eq!(decode(&bytes).0, page, "{label}: {head}");
            }
        }
    }

    #[test]
    fn a_stale_declaration_does_not_break_utf_8() {
        let page = format!("<meta charset=shift_jis>{TEXT}");
        assert_eq!(decode(page.as_bytes()), (page, "UTF-8"));
    }

    #[test]
    fn byte_order_marks_decide_and_are_not_text() {
        let utf16: Vec<u8> = "\u{feff}題".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(decode(&utf16), ("題".to_owned(), "UTF-16LE"));
        assert_eq!(decode("\u{feff}題".as_bytes()), ("題".to_owned(), "UTF-8"));
    }
}
