//! Markdown to sections: rendered to HTML, then read like any page, so that both give the same text.
//!
//! What generators add to Markdown is understood where it carries text or addresses: front matter, `{#id}` and React's `{/*id*/}` after headings,
//! `:::` containers, imports of MDX. Everything else that is no Markdown stays as it is.

use crate::front_matter::FrontMatter;
use crate::html;
use crate::page::{DropReason, Page};
use crate::reader::Reader;
use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd};
use std::collections::BTreeMap;

pub(crate) fn read(reader: &Reader, path: &str, text: &str) -> Result<Page, DropReason> {
    let (front, body) = FrontMatter::split(text).map_err(DropReason::FrontMatter)?;
    if front.draft {
        return Err(DropReason::Draft);
    }
    if front.ignored {
        return Err(DropReason::Ignored);
    }
    if front.noindex && !reader.options().keep_noindex {
        return Err(DropReason::NoIndex);
    }
    let body = plain_markdown(body);
    let mut page = html::read(reader, path, &format!("<main>{}</main>", to_html(&body)))?;
    page.marked = false;
    if let Some(title) = front.title {
        page.title = title;
    }
    page.lang = front.lang;
    page.meta.extend(front.meta);
    page.filters.extend(front.filters);
    page.sort.extend(front.sort);
    if let Some(weight) = front.weight {
        page.sections.iter_mut().for_each(|s| s.weight = Some(s.weight.unwrap_or(1.0) * weight));
    }
    if let Some(address) = front.address {
        page.url = format!("{}{}", reader.options().url.base.trim_end_matches('/'), address);
    }
    Ok(page)
}

/// The Markdown in `text` with lines that are not Markdown taken out, outside code blocks.
fn plain_markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut fence: Option<&str> = None;
    for line in text.lines() {
        let start = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark));
        if let Some(open) = fence {
            if mark == Some(open) {
                fence = None;
            }
        } else if let Some(mark) = mark {
            fence = Some(mark);
        } else if let Some(rest) = start.strip_prefix(":::") {
            // `::: tip 題`: the kind goes, the title stays, as a block of its own.
            let title =
                rest.trim_start_matches(':').trim().split_once(char::is_whitespace).map_or("", |(_, t)| t);
            out.push('\n');
            out.push_str(title);
            out.push_str("\n\n");
            continue;
        } else if start.starts_with("<<<")
            || start.starts_with("{{#")
            || ((line.starts_with("import ") || line.starts_with("export ")) && is_module_line(line))
        {
            continue;
        } else if start.starts_with('#')
            && let Some((heading, id)) =
                line.trim_end().strip_suffix("*/}").and_then(|l| l.rsplit_once("{/*"))
        {
            out.push_str(heading);
            out.push_str("{#");
            out.push_str(id.trim());
            out.push_str("}\n");
            continue;
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

fn is_module_line(line: &str) -> bool {
    line.ends_with(';')
        || line.contains(" from '")
        || line.contains(" from \"")
        || line.starts_with("export const")
        || line.starts_with("export default")
}

fn to_html(markdown: &str) -> String {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_HEADING_ATTRIBUTES
        | Options::ENABLE_GFM
        | Options::ENABLE_DEFINITION_LIST;
    let mut events: Vec<Event<'_>> = Parser::new_ext(markdown, options).collect();
    let mut slugs = Slugs::default();
    for at in 0..events.len() {
        let Event::Start(Tag::Heading { id, .. }) = &events[at] else { continue };
        let name = match id {
            Some(id) => id.to_string(),
            None => {
                let text: String = events[at..]
                    .iter()
                    .take_while(|e| !matches!(e, Event::End(TagEnd::Heading(_))))
                    .filter_map(|e| match e {
                        Event::Text(t) | Event::Code(t) => Some(&**t),
                        _ => None,
                    })
                    .collect();
                slugs.name(&text)
            }
        };
        if let Event::Start(Tag::Heading { id, .. }) = &mut events[at] {
            *id = Some(CowStr::from(name));
        }
    }
    let mut out = String::with_capacity(markdown.len() * 3 / 2);
    pulldown_cmark::html::push_html(&mut out, events.into_iter());
    out
}

/// Names for headings that have none, as GitHub and most generators make them.
#[derive(Default)]
struct Slugs(BTreeMap<String, usize>);

impl Slugs {
    fn name(&mut self, heading: &str) -> String {
        let mut slug = String::new();
        for c in heading.trim().chars().flat_map(char::to_lowercase) {
            match c {
                ' ' => slug.push('-'),
                '-' | '_' => slug.push(c),
                c if c.is_alphanumeric() => slug.push(c),
                _ => {}
            }
        }
        let n = self.0.entry(slug.clone()).or_default();
        let name = if *n == 0 { slug } else { format!("{slug}-{n}") };
        *n += 1;
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::ReadOptions;

    fn read(text: &str) -> Result<Page, DropReason> {
        Reader::new(ReadOptions::default()).unwrap().read("guide/a.md", text.as_bytes())
    }

    #[test]
    fn headings_front_matter_and_containers_are_read() {
        let page = read(
            "---\ntitle: 題\nlang: ja-JP\ntags: [甲, 乙]\ndate: 2026-11-20\n---\nimport X from './x'\n\n# 見出し\n\n導入の\n文。\n\n## 使い方 {#usage}\n\n::: tip ヒント\n中身 `code`\n:::\n\n```js\nimport y from 'y'\n```\n\n## 使い方\n\n| a | b |\n|---|---|\n| 一 | 二 |\n\n### React の見出し {/*react*/}\n\n- 項目1\n- 項目2\n",
        )
        .unwrap();
        assert_eq!(
            (page.title.as_str(), page.lang.as_str(), page.url.as_str()),
            ("題", "ja", "/guide/a.html")
        );
        assert_eq!(page.filters["tags"], ["甲", "乙"]);
        assert_eq!(page.sort["date"], "2026-11-20");
        assert_eq!(page.code_chars, 18);
        let found: Vec<_> = page
            .sections
            .iter()
            .map(|s| (s.headings.join(" > "), s.anchor.clone(), s.text.clone()))
            .collect();
        let row = |h: &str, a: &str, t: &str| (h.to_owned(), a.to_owned(), t.to_owned());
        assert_eq!(
            found,
            [
                row("", "", "導入の文。"),
                row("使い方", "usage", "ヒント\n中身 code"),
                row("使い方", "使い方", "a b\n一 二"),
                row("使い方 > React の見出し", "react", "項目1\n項目2"),
            ]
        );
    }

    #[test]
    fn drafts_and_hidden_pages_are_left_out_with_their_reason() {
        for (front, expected) in [
            ("draft: true", DropReason::Draft),
            ("search: false", DropReason::Ignored),
            ("pagefind: false", DropReason::Ignored),
            ("noindex: true", DropReason::NoIndex),
        ] {
            assert_eq!(read(&format!("---\n{front}\n---\n文")), Err(expected));
        }
        assert_eq!(read("---\ntitle: 題\n---\n"), Err(DropReason::Empty));
        assert!(matches!(read("---\n[: x\n---\n文"), Err(DropReason::FrontMatter(_))));
        assert!(read("+++\ntitle = '題'\n+++\n文").is_ok_and(|p| p.title == "題"));
        assert!(read("---\n文だけ").is_ok(), "a rule at the top is no front matter");
    }

    #[test]
    fn slugs_repeat_with_a_number() {
        let mut slugs = Slugs::default();
        assert_eq!(
            ["C++ とは?", "使い方", "使い方", "Foo  Bar"].map(|h| slugs.name(h)),
            ["c-とは", "使い方", "使い方-1", "foo--bar"]
        );
    }
}
