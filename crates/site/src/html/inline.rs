//! Text as a reader sees it: white space collapsed, blocks on lines of their own.

/// Collects text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inline {
    text: String,
    space: bool,
    newline: bool,
    /// A gap that even Japanese text keeps.
    gap: bool,
}

impl Inline {
    /// Adds running text. A line break of the source between two Japanese characters is no space, nor is a space after 、 or 。.
    pub(crate) fn push(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                ' ' | '\t' | '\n' | '\r' | '\u{c}' | '\u{a0}' => {
                    self.space = true;
                    self.newline |= c == '\n';
                }
                // Soft hyphens, zero-width spaces and joins inside words.
                '\u{ad}' | '\u{200b}' | '\u{2060}' | '\u{feff}' => {}
                _ => {
                    if self.space {
                        let last = self.text.chars().next_back();
                        let breaks = self.newline || matches!(last, Some('、' | '。'));
                        let joined = !self.gap && breaks && last.is_some_and(is_wide) && is_wide(c);
                        if !joined && last.is_some_and(|last| last != '\n') {
                            self.text.push(' ');
                        }
                        (self.space, self.newline, self.gap) = (false, false, false);
                    }
                    self.text.push(c);
                }
            }
        }
    }

    /// Adds text whose line breaks count.
    pub(crate) fn push_lines(&mut self, text: &str) {
        for line in text.split_inclusive('\n') {
            self.push(line.trim_end_matches('\n'));
            if line.ends_with('\n') {
                self.end_line();
            }
        }
    }

    /// Ends the line, if there is one.
    pub(crate) fn end_line(&mut self) {
        (self.space, self.newline, self.gap) = (false, false, false);
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
    }

    /// A gap between two words that stand apart, as cells do.
    pub(crate) fn gap(&mut self) {
        (self.space, self.gap) = (true, true);
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    /// The text, leaving nothing.
    pub(crate) fn take(&mut self) -> String {
        let mut text = core::mem::take(self).text;
        text.truncate(text.trim_end().len());
        text
    }
}

/// Characters of scripts written without spaces, and their punctuation.
fn is_wide(c: char) -> bool {
    matches!(u32::from(c), 0x3000..=0x30ff | 0x3400..=0x9fff | 0xf900..=0xfaff | 0xff00..=0xff60 | 0x2_0000..=0x3_ffff)
}

#[cfg(test)]
mod tests {
    use super::Inline;

    #[test]
    fn white_space_reads_as_a_browser_shows_it() {
        for (pieces, expected) in [
            (&["  a \n b\t"][..], "a b"),
            (&["日本語\n  の文", "書"], "日本語の文書"),
            (&["日本語 の文書"], "日本語 の文書"),
            (&["前、 後。 次"], "前、後。次"),
            (&["React\n", "の状態"], "React の状態"),
            (&["長\u{ad}い\u{200b}語"], "長い語"),
            (&["a\u{a0}b"], "a b"),
            (&["  "], ""),
        ] {
            let mut inline = Inline::default();
            pieces.iter().for_each(|piece| inline.push(piece));
            assert_eq!(inline.take(), expected);
        }
    }

    #[test]
    fn cells_stay_apart_whatever_stands_between_them() {
        let mut inline = Inline::default();
        inline.gap();
        inline.push("名前");
        inline.push("\n");
        inline.gap();
        inline.push("\n意味");
        assert_eq!(inline.take(), "名前 意味");
    }

    #[test]
    fn blocks_stand_on_one_line_each() {
        let mut inline = Inline::default();
        inline.end_line();
        inline.push("一");
        inline.end_line();
        inline.end_line();
        inline.push(" 二 ");
        inline.end_line();
        inline.push_lines("三\n\n四");
        assert_eq!(inline.take(), "一\n二\n三\n四");
        assert_eq!(inline.len(), 0);
    }
}
