//! Headings and text, in reading order, to sections.

use crate::html::Inline;
use crate::page::PageSection;

/// Headings that stand open, and the section being filled.
#[derive(Debug, Default)]
pub(crate) struct Outline {
    /// Open headings: level, text, anchor.
    open: Vec<(u8, String, String)>,
    text: Inline,
    heading: Option<(u8, String, Inline)>,
    title: Option<String>,
    /// Weight of text being read, and the sum of weight times length so far.
    weights: Vec<f32>,
    weighed: f32,
    sections: Vec<PageSection>,
}

impl Outline {
    pub(crate) fn text(&mut self, text: &str) {
        self.write(|inline| inline.push(text));
    }

    pub(crate) fn lines(&mut self, text: &str) {
        self.write(|inline| inline.push_lines(text));
    }

    pub(crate) fn gap(&mut self) {
        self.write(Inline::gap);
    }

    /// Ends a line of text; inside a heading it is a gap.
    pub(crate) fn end_line(&mut self) {
        if self.heading.is_some() {
            self.gap();
        } else {
            self.write(Inline::end_line);
        }
    }

    fn write(&mut self, f: impl FnOnce(&mut Inline)) {
        if let Some((_, _, heading)) = &mut self.heading {
            return f(heading);
        }
        let before = self.text.len();
        f(&mut self.text);
        self.weighed += (self.text.len() - before) as f32 * self.weights.last().copied().unwrap_or(1.0);
    }

    pub(crate) fn push_weight(&mut self, weight: f32) {
        self.weights.push(weight);
    }

    pub(crate) fn pop_weight(&mut self) {
        self.weights.pop();
    }

    /// Text from here belongs to a heading, up to [`Self::end_heading`].
    pub(crate) fn begin_heading(&mut self, level: u8, anchor: String) {
        self.end_heading();
        self.heading = Some((level, anchor, Inline::default()));
    }

    /// The heading ends and opens its section. The first heading of level 1 is the page's title, if nothing else came before it but a lead.
    pub(crate) fn end_heading(&mut self) {
        let Some((level, anchor, mut text)) = self.heading.take() else { return };
        let text = text.take();
        if text.is_empty() {
            return;
        }
        if level == 1 && self.title.is_none() && self.open.is_empty() {
            self.title = Some(text);
            self.text.end_line();
            return;
        }
        self.close_section();
        while self.open.last().is_some_and(|(open, _, _)| *open >= level) {
            self.open.pop();
        }
        self.open.push((level, text, anchor));
    }

    fn close_section(&mut self) {
        let bytes = self.text.len();
        let text = self.text.take();
        let mean = self.weighed / bytes.max(1) as f32;
        self.weighed = 0.0;
        if text.is_empty() {
            return;
        }
        // A heading that nothing links to is reached through the nearest one around it.
        let anchor = self.open.iter().rev().map(|(_, _, anchor)| anchor).find(|a| !a.is_empty());
        self.sections.push(PageSection {
            headings: self.open.iter().map(|(_, text, _)| text.clone()).collect(),
            anchor: anchor.cloned().unwrap_or_default(),
            text,
            weight: ((mean - 1.0).abs() > 0.01).then_some(((mean * 100.0).round() / 100.0).max(0.01)),
        });
    }

    /// The title found among the headings, and the sections.
    pub(crate) fn finish(mut self) -> (Option<String>, Vec<PageSection>) {
        self.end_heading();
        self.close_section();
        (self.title, self.sections)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heading(outline: &mut Outline, level: u8, text: &str, anchor: &str) {
        outline.begin_heading(level, anchor.to_owned());
        outline.text(text);
        outline.end_heading();
    }

    #[test]
    fn paths_follow_levels_and_unnamed_headings_borrow_an_anchor() {
        let mut outline = Outline::default();
        outline.text("前置き");
        heading(&mut outline, 1, "題", "top");
        outline.text("導入");
        heading(&mut outline, 2, "甲", "a");
        heading(&mut outline, 4, "乙", "");
        outline.text("本文");
        heading(&mut outline, 3, "丙", "c");
        outline.text("本文");
        heading(&mut outline, 1, "丁", "d");
        outline.text("本文");
        let (title, sections) = outline.finish();
        assert_eq!(title.as_deref(), Some("題"));
        let found: Vec<_> =
            sections.iter().map(|s| (s.headings.join(" > "), s.anchor.as_str(), s.text.as_str())).collect();
        assert_eq!(
            found,
            [
                (String::new(), "", "前置き\n導入"),
                ("甲 > 乙".to_owned(), "a", "本文"),
                ("甲 > 丙".to_owned(), "c", "本文"),
                ("丁".to_owned(), "d", "本文"),
            ]
        );
    }

    #[test]
    fn weights_are_a_mean_by_length() {
        let mut outline = Outline::default();
        outline.text("軽い");
        outline.push_weight(4.0);
        outline.text("重い");
        outline.pop_weight();
        heading(&mut outline, 2, "次", "");
        outline.text("普通");
        let (_, sections) = outline.finish();
        assert_eq!(sections.iter().map(|s| s.weight).collect::<Vec<_>>(), [Some(2.5), None]);
    }
}
