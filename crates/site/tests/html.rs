//! Pages as real generators write them, to section lists that were checked by eye.
//!
//! `BLESS=1 cargo test -p shirube-site` writes the lists anew; look at the difference before keeping it.

use proptest::prelude::*;
use shirube_site::{DropReason, Page, ReadOptions, Reader};
use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn reader() -> Reader {
    Reader::new(ReadOptions::default()).unwrap()
}

/// The golden form: one line a fact, so that a difference is readable.
fn listing(page: &Page) -> String {
    let mut out = format!("title {}\nlang {}\n", page.title, page.lang);
    for (name, value) in &page.meta {
        out += &format!("meta {name} = {value}\n");
    }
    for (name, values) in &page.filters {
        out += &format!("filter {name} = {}\n", values.join(" | "));
    }
    for (name, value) in &page.sort {
        out += &format!("sort {name} = {value}\n");
    }
    out += &format!("code {}\n", page.code_chars);
    for section in &page.sections {
        out += &format!("\n#{} {}", section.anchor, section.headings.join(" > "));
        if let Some(weight) = section.weight {
            out += &format!(" ({weight})");
        }
        out += "\n";
        for line in section.text.lines() {
            out += &format!("  {line}\n");
        }
    }
    out
}

fn holds(name: &str) {
    let folder = fixtures().join(name);
    let bytes = std::fs::read(folder.join("page.html")).unwrap();
    let page = reader().read("guide/page.html", &bytes).unwrap();
    let found = listing(&page);
    let golden = folder.join("expected.txt");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&golden, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&golden).unwrap();
    assert!(found == expected, "{name}: found\n{found}\nexpected\n{expected}");
}

#[test]
fn a_vitepress_page_gives_its_sections() {
    holds("vitepress");
}

#[test]
fn a_docusaurus_page_gives_its_sections() {
    holds("docusaurus");
}

#[test]
fn an_mdbook_page_gives_its_sections() {
    holds("mdbook");
}

#[test]
fn sphinx_pages_of_two_themes_give_the_same_sections() {
    holds("sphinx");
    holds("sphinx-furo");
    let read = |name: &str| std::fs::read_to_string(fixtures().join(name).join("expected.txt")).unwrap();
    assert_eq!(read("sphinx"), read("sphinx-furo"));
}

#[test]
fn a_plain_page_in_shift_jis_without_any_structure_gives_its_text() {
    holds("plain");
}

#[test]
fn marks_of_the_owner_are_followed() {
    holds("marks");
}

#[test]
fn pages_that_are_not_to_be_found_say_why() {
    for (html, expected) in [
        ("<meta name=robots content='noindex, follow'><p>文", DropReason::NoIndex),
        ("<META NAME=ROBOTS CONTENT=NONE><p>文", DropReason::NoIndex),
        (
            "<meta http-equiv=refresh content='0; url=/新しい/'><p>移りました",
            DropReason::Redirect("/新しい/".to_owned()),
        ),
        ("<meta http-equiv=refresh content=\"5;URL='x.html'\">", DropReason::Redirect("x.html".to_owned())),
        ("<html data-shirube-ignore><p>文", DropReason::Ignored),
        ("<body data-pagefind-ignore=all><p>文", DropReason::Ignored),
        ("", DropReason::Empty),
        ("<title>題だけ</title><nav>案内</nav><script>文</script>", DropReason::Empty),
    ] {
        assert_eq!(reader().read("a.html", html.as_bytes()), Err(expected), "{html}");
    }
    let page = reader().read("a.html", "<meta http-equiv=refresh content=30><p>文".as_bytes()).unwrap();
    assert_eq!(page.sections[0].text, "文", "a page that reloads itself is a page");
    let options =
        ReadOptions { keep_noindex: true, languages: vec!["ja".to_owned()], ..ReadOptions::default() };
    let reader = Reader::new(options).unwrap();
    assert!(reader.read("a.html", "<meta name=robots content=noindex><p>文".as_bytes()).is_ok());
    assert_eq!(
        reader.read("a.html", b"<html lang=en-GB><p>text"),
        Err(DropReason::Language("en".to_owned()))
    );
    assert!(reader.read("a.html", b"<html lang=JA><p>text").is_ok());
}

#[test]
fn the_content_is_found_with_and_without_a_main_element() {
    for (html, expected) in [
        ("<header>店</header><main><header><h1>題</h1></header><p>文</main><aside>宣伝</aside>", "文"),
        ("<body><header>店</header><p>文</p><aside>宣伝</aside><footer>末</footer>", "文"),
        ("<div role=main><p>文</div><p>外", "文"),
        ("<article>一</article><p>外</p><article>二</article>", "一\n二"),
        ("<main><article>長い本文です</article><div>目次</div></main>", "長い本文です"),
        ("<main><article>短</article><div>一覧の頁の長い前書き</div></main>", "短\n一覧の頁の長い前書き"),
        ("<div>店</div><div id=content><p>これが本文です</div>", "これが本文です"),
        ("<div>店の長い長い説明です</div><div id=content>短</div>", "店の長い長い説明です\n短"),
    ] {
        let page = reader().read("a.html", html.as_bytes()).unwrap();
        let text: Vec<_> = page.sections.iter().map(|s| s.text.as_str()).collect();
        assert_eq!(text.join("\n"), expected, "{html}");
    }
}

#[test]
fn selectors_of_the_owner_choose_and_leave_out() {
    let html = "<div class=doc><p>文</p><p class=ad>宣伝</p></div><main>外</main>";
    let options = ReadOptions {
        root: Some(".doc".to_owned()),
        exclude_selectors: vec![".ad, .x".to_owned()],
        ..ReadOptions::default()
    };
    let page = Reader::new(options).unwrap().read("a.html", html.as_bytes()).unwrap();
    assert_eq!(page.sections[0].text, "文");
    let options = ReadOptions { root: Some("..x".to_owned()), ..ReadOptions::default() };
    assert!(Reader::new(options).unwrap_err().to_string().contains("..x"));
}

#[test]
fn code_blocks_are_searched_on_request() {
    let html = "<main><p>文</p><pre><code>let x = 1;\nlet y;</code></pre>";
    let page = reader().read("a.html", html.as_bytes()).unwrap();
    assert_eq!((page.sections[0].text.as_str(), page.code_chars), ("文", 17));
    let with = Reader::new(ReadOptions { code: true, ..ReadOptions::default() }).unwrap();
    assert_eq!(with.read("a.html", html.as_bytes()).unwrap().sections[0].text, "文\nlet x = 1;\nlet y;");
}

#[test]
fn deep_nesting_and_endless_attributes_are_no_trouble() {
    for html in [
        "<div>".repeat(5_000) + "底",
        "<b><i>".repeat(2_000) + "底" + &"</b></i>".repeat(2_000),
        format!("<p {}>底", "data-shirube-filter='a:b' x='y' ".repeat(1_000)),
    ] {
        let page = reader().read("a.html", html.as_bytes()).unwrap();
        assert!(page.sections[0].text.contains('底'));
    }
}

/// Pieces that HTML is made of, whole and broken.
fn fragment() -> impl Strategy<Value = String> {
    let tags = prop::sample::select(vec![
        "<p>",
        "</p>",
        "<h1>",
        "<h2 id=a>",
        "</h2>",
        "<h3><a href='#x'>#</a>",
        "<main>",
        "</main>",
        "<article>",
        "<pre><code>",
        "</pre>",
        "<table>",
        "<td>",
        "<script>",
        "</script>",
        "<style>",
        "<svg><title>",
        "<template>",
        "<!--",
        "-->",
        "<![CDATA[",
        "<br>",
        "<div data-shirube-body>",
        "<div data-shirube-weight=2>",
        "<p data-pagefind-ignore>",
        "<i data-shirube-meta='a, b[c], d:e'>",
        "<html lang=ja>",
        "<body>",
        "<meta charset=euc-jp>",
        "<noscript>",
        "<ruby>漢<rt>かん</rt></ruby>",
        "&amp;",
        "&#x1F600;",
        "&#0;",
        "&nosuch;",
        "<",
        ">",
        "\u{0}",
        "\u{feff}",
        "\"",
        "'",
        "<frameset>",
        "<select><option>",
    ])
    .prop_map(str::to_owned);
    prop_oneof![tags, "[ぁ-んァ-ヶ一-龠a-z 。\n]{0,12}", any::<String>()]
}

#[test]
fn pagefinds_attributes_mean_the_same_as_our_own() {
    let html = std::fs::read_to_string(fixtures().join("marks/page.html")).unwrap();
    let ours = html.replace("data-pagefind-", "data-shirube-");
    let theirs = html.replace("data-shirube-", "data-pagefind-");
    assert!(ours != html && theirs != html, "the page has attributes of both names");
    let read = |html: &str| listing(&reader().read("marks/index.html", html.as_bytes()).unwrap());
    assert_eq!(read(&ours), read(&theirs));
    assert_eq!(read(&ours), read(&html));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_garbage_panics_and_every_section_has_text(
        pieces in prop::collection::vec(fragment(), 0..40),
        markdown: bool,
    ) {
        let html = pieces.concat();
        let path = if markdown { "a.md" } else { "a.html" };
        if let Ok(page) = reader().read(path, html.as_bytes()) {
            prop_assert!(!page.sections.is_empty());
            for section in &page.sections {
                prop_assert!(!section.text.trim().is_empty());
                prop_assert!(section.headings.iter().all(|h| !h.is_empty()));
                prop_assert!(section.weight.is_none_or(|w| w.is_finite() && w > 0.0));
            }
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), markdown: bool) {
        let _ = reader().read(if markdown { "a.md" } else { "a.html" }, &bytes);
    }

    #[test]
    fn text_survives_whatever_stands_around_it(words in "[ぁ-ん一-龠]{4,40}", pieces in prop::collection::vec("(<b>|</b>|<div>|</div>|<p>|<ul><li>|<br>)", 0..6)) {
        let html = format!("<main><p>{words}</p>{}", pieces.concat());
        let page = reader().read("a.html", html.as_bytes()).unwrap();
        prop_assert_eq!(&page.sections[0].text, &words);
    }
}
