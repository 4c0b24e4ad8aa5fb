//! Sections from JSON Lines, plain or gzip.
//!
//! One object a line: `id` (required), `title`, `headings`, `text`, `page`, `url`, `anchor`, `source`; other fields are ignored. Without `url`, a hit
//! leads to `page#anchor`.

use crate::SiteError;
use flate2::read::MultiGzDecoder;
use shirube_format::bundle::Section;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// The sections in `path`, in order, empty ones left out: `(sections, number left out)`. Compression is told by content, not by name.
///
/// # Errors
/// [`SiteError::Read`], [`SiteError::Line`] with the number of the line, [`SiteError::NoSections`].
pub fn read_jsonl(path: &Path) -> Result<(Vec<Section>, usize), SiteError> {
    let name = path.display().to_string();
    let read = |source| SiteError::Read { path: name.clone(), source };
    let file = BufReader::new(std::fs::File::open(path).map_err(read)?);
    read_jsonl_bytes(&name, file)
}

/// As [`read_jsonl`], from bytes; `name` is for messages.
///
/// # Errors
/// As [`read_jsonl`].
pub fn read_jsonl_bytes(name: &str, mut bytes: impl BufRead) -> Result<(Vec<Section>, usize), SiteError> {
    let read = |source| SiteError::Read { path: name.to_owned(), source };
    let gzip = bytes.fill_buf().map_err(read)?.starts_with(&[0x1f, 0x8b]);
    if gzip { parse(name, BufReader::new(MultiGzDecoder::new(bytes))) } else { parse(name, bytes) }
}

fn parse(name: &str, mut lines: impl BufRead) -> Result<(Vec<Section>, usize), SiteError> {
    let (mut sections, mut left_out) = (Vec::new(), 0);
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        let n = lines
            .read_until(b'\n', &mut bytes)
            .map_err(|source| SiteError::Read { path: name.to_owned(), source })?;
        if n == 0 {
            break;
        }
        let json = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes).trim_ascii();
        if json.is_empty() {
            continue;
        }
        let mut section: Section = serde_json::from_slice(json).map_err(|source| SiteError::Line {
            path: name.to_owned(),
            line,
            source,
        })?;
        if section.document().text.trim().is_empty() {
            left_out += 1;
            continue;
        }
        if section.url.is_empty() {
            section.url = section.page.clone();
            if !section.anchor.is_empty() {
                section.url = format!("{}#{}", section.page, section.anchor);
            }
        }
        sections.push(section);
    }
    if sections.is_empty() {
        return Err(SiteError::NoSections { path: name.to_owned() });
    }
    Ok((sections, left_out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_sections_and_empty_ones_are_counted() {
        let text = "\u{feff}{\"id\":\"a\",\"text\":\"本文\",\"page\":\"p\",\"anchor\":\"x\",\"code\":\"ignored\"}\r\n\n{\"id\":\"b\"}\n{\"id\":\"c\",\"title\":\"題\",\"url\":\"u\"}";
        let (sections, left_out) = parse("f", text.as_bytes()).unwrap();
        assert_eq!(
            sections.iter().map(|s| (s.id.as_str(), s.url.as_str())).collect::<Vec<_>>(),
            [("a", "p#x"), ("c", "u")]
        );
        assert_eq!(left_out, 1);
    }

    #[test]
    fn a_bad_line_is_named_by_its_number() {
        for (text, bad) in [
            ("{\"id\":\"a\",\"text\":\"x\"}\n{\"id\":", 2),
            ("[1]", 1),
            ("{\"text\":\"x\"}", 1),
            ("\n\n\u{1}", 3),
        ] {
            match parse("f.jsonl", text.as_bytes()) {
                Err(e @ SiteError::Line { .. }) => {
                    assert!(e.to_string().starts_with(&format!("f.jsonl:{bad}: ")), "{e}")
                }
                other => panic!("{text:?}: {other:?}"),
            }
        }
        assert!(matches!(parse("f", &b"\xff\xfe"[..]), Err(SiteError::Line { line: 1, .. })));
        assert!(matches!(parse("f", &b""[..]), Err(SiteError::NoSections { .. })));
    }

    #[test]
    fn a_cut_gzip_is_an_error_and_not_half_a_site() {
        use flate2::{Compression, write::GzEncoder};
        use std::io::Write;
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("sections.jsonl.gz");
        let mut gz = GzEncoder::new(Vec::new(), Compression::default());
        for i in 0..200 {
            writeln!(gz, "{{\"id\":\"s{i}\",\"text\":\"本文その{i}\"}}").unwrap();
        }
        let whole = gz.finish().unwrap();
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(read_jsonl(&path).unwrap().0.len(), 200);
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(matches!(read_jsonl(&path), Err(SiteError::Read { .. } | SiteError::Line { .. })));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(read_jsonl(&path), Err(SiteError::Read { .. })));
    }
}
