//! Regular expressions of `Split`, the small part of them that tokenizers use: alternatives of single characters with counts, and a look at the next.
//!
//! `[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+` is what it is for (Llama 3, Qwen). Alternatives are tried in
//! order and counts are greedy and give back, as in Oniguruma, which the reference runs. Groups with counts, captures, anchors and properties other
//! than L and N are refused by name when a `tokenizer.json` is read. The way not taken: a regex engine, which weighs more than the rest of this module.

use super::Tagged;
use super::classes::{LETTER, NUMBER, within};
use serde::{Deserialize, Serialize};

/// Alternatives, in the order they are tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pattern(Vec<Vec<Node>>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Node {
    /// A character of the set, `least` to `most` times, as often as possible.
    Repeat { set: Set, least: u32, most: u32 },
    /// The next character is of the set, or not; at the end nothing is.
    Ahead { set: Set, wanted: bool },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Set {
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    negated: bool,
    items: Vec<Item>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Item {
    Blank,
    NotBlank,
    Letter,
    NotLetter,
    Number,
    NotNumber,
    Range(char, char),
}

/// Nodes of a pattern at most, and in one alternative counts without an upper bound: what bounds the time of a match.
const MOST_NODES: usize = 64;
const MOST_OPEN: usize = 3;

impl Set {
    fn holds(&self, c: char) -> bool {
        let item = |item: &Item| match *item {
            Item::Blank => c.is_whitespace(),
            Item::NotBlank => !c.is_whitespace(),
            Item::Letter => within(&LETTER, c),
            Item::NotLetter => !within(&LETTER, c),
            Item::Number => within(&NUMBER, c),
            Item::NotNumber => !within(&NUMBER, c),
            Item::Range(first, last) => (first..=last).contains(&c),
        };
        self.items.iter().any(item) != self.negated
    }
}

impl Pattern {
    /// Whether a match takes bounded work and at least one character. Files are not trusted to hold such a pattern.
    pub(crate) fn is_sound(&self) -> bool {
        let nodes: usize = self.0.iter().map(Vec::len).sum();
        let sound = |alternative: &Vec<Node>| {
            let (mut least, mut open) = (0u64, 0);
            for node in alternative {
                if let Node::Repeat { least: n, most, .. } = node {
                    least += u64::from(*n);
                    open += usize::from(*most == u32::MAX || most - n.min(most) > 8);
                }
            }
            least > 0 && open <= MOST_OPEN
        };
        nodes <= MOST_NODES && self.0.iter().all(sound)
    }

    /// The pattern that is this text.
    pub(crate) fn of_text(text: &str) -> Self {
        let one = |c| Node::Repeat {
            set: Set { negated: false, items: vec![Item::Range(c, c)] },
            least: 1,
            most: 1,
        };
        Self(vec![text.chars().map(one).collect()])
    }

    /// Length of the match at the beginning of `text`.
    pub(crate) fn length(&self, text: &[Tagged]) -> Option<usize> {
        self.0.iter().find_map(|alternative| matched(alternative, text)).filter(|&n| n > 0)
    }
}

fn matched(nodes: &[Node], text: &[Tagged]) -> Option<usize> {
    let Some((node, rest)) = nodes.split_first() else { return Some(0) };
    match node {
        Node::Ahead { set, wanted } => {
            let found = text.first().is_some_and(|t| set.holds(t.c));
            if found == *wanted { matched(rest, text) } else { None }
        }
        Node::Repeat { set, least, most } => {
            let (least, most) = (*least as usize, *most as usize);
            let mut n = text.iter().take(most).take_while(|t| set.holds(t.c)).count();
            loop {
                if n < least {
                    return None;
                }
                if let Some(more) = matched(rest, &text[n..]) {
                    return Some(n + more);
                }
                n = n.checked_sub(1)?;
            }
        }
    }
}

/// What a pattern is written as.
struct Source<'a> {
    rest: core::str::Chars<'a>,
    /// Letters match in both cases.
    fold: bool,
}

impl Pattern {
    /// The pattern of an expression, or what of it is not built.
    pub(crate) fn parse(expression: &str) -> Result<Self, String> {
        let mut source = Source { rest: expression.chars(), fold: false };
        let pattern = Self(source.alternatives(false)?);
        if !pattern.is_sound() {
            return Err("an alternative that matches nothing, or too many counts".to_owned());
        }
        Ok(pattern)
    }
}

impl Source<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    fn take(&mut self, text: &str) -> bool {
        let found = self.rest.as_str().strip_prefix(text);
        found.map(|rest| self.rest = rest.chars()).is_some()
    }

    /// Up to the end, or up to the closing bracket of a group.
    fn alternatives(&mut self, inside: bool) -> Result<Vec<Vec<Node>>, String> {
        let mut out = Vec::new();
        let mut nodes = Vec::new();
        loop {
            match self.peek() {
                None if inside => return Err("a group that does not end".to_owned()),
                None => break,
                Some(')') if inside => {
                    self.rest.next();
                    break;
                }
                Some('|') => {
                    self.rest.next();
                    out.push(core::mem::take(&mut nodes));
                }
                Some('(') => {
                    let look = [("(?=", true), ("(?!", false)].into_iter().find(|(text, _)| self.take(text));
                    if let Some((_, wanted)) = look {
                        nodes.push(self.look(wanted)?);
                        continue;
                    }
                    let fold = self.take("(?i:");
                    if !fold && !self.take("(?:") {
                        return Err(self.other("a group"));
                    }
                    // A group that is a whole alternative is as many alternatives.
                    if !nodes.is_empty() {
                        return Err("a group after something".to_owned());
                    }
                    let before = self.fold;
                    self.fold |= fold;
                    let mut all = self.alternatives(true)?;
                    self.fold = before;
                    if !matches!(self.peek(), None | Some('|' | ')')) {
                        return Err("a group before something".to_owned());
                    }
                    nodes = all.pop().unwrap_or_default();
                    out.append(&mut all);
                }
                Some(_) => {
                    let set = self.set()?;
                    let (least, most) = self.count()?;
                    nodes.push(Node::Repeat { set, least, most });
                }
            }
        }
        out.push(nodes);
        Ok(out)
    }

    /// The set of a look ahead, with its closing bracket.
    fn look(&mut self, wanted: bool) -> Result<Node, String> {
        let set = self.set()?;
        if self.take(")") {
            Ok(Node::Ahead { set, wanted })
        } else {
            Err("a look ahead at more than one character".to_owned())
        }
    }

    fn other(&self, what: &str) -> String {
        format!("{what} {:?}", self.rest.as_str().chars().take(12).collect::<String>())
    }

    fn count(&mut self) -> Result<(u32, u32), String> {
        let count = match self.peek() {
            Some('?') => (0, 1),
            Some('*') => (0, u32::MAX),
            Some('+') => (1, u32::MAX),
            Some('{') => {
                let (inner, rest) =
                    self.rest.as_str()[1..].split_once('}').ok_or_else(|| self.other("a count"))?;
                let (least, most) = inner.split_once(',').unwrap_or((inner, inner));
                let number =
                    |text: &str, usual| if text.is_empty() { Ok(usual) } else { text.parse::<u32>() };
                let (Ok(least), Ok(most)) = (number(least, 0), number(most, u32::MAX)) else {
                    return Err(self.other("a count"));
                };
                self.rest = rest.chars();
                if most < least {
                    return Err("a count whose end is before its beginning".to_owned());
                }
                return if matches!(self.peek(), Some('?' | '+')) {
                    Err(self.other("a count"))
                } else {
                    Ok((least, most))
                };
            }
            _ => return Ok((1, 1)),
        };
        self.rest.next();
        // Lazy and possessive counts mean other things.
        if matches!(self.peek(), Some('?' | '+')) { Err(self.other("a count")) } else { Ok(count) }
    }

    /// One character, a class, or a set in square brackets.
    fn set(&mut self) -> Result<Set, String> {
        match self.peek() {
            Some('[') => {
                self.rest.next();
                let negated = self.take("^");
                let mut items = Vec::new();
                loop {
                    match self.peek() {
                        None => return Err("a set that does not end".to_owned()),
                        Some(']') if !items.is_empty() => break,
                        // Nested sets and intersections of Oniguruma.
                        Some('[' | '&' | ']') => return Err(self.other("a set with")),
                        Some(_) => {}
                    }
                    let item = self.item()?;
                    let mut range = self.rest.clone();
                    match (item, range.next(), range.next()) {
                        (Item::Range(first, _), Some('-'), Some(end)) if end != ']' => {
                            self.rest.next();
                            let Item::Range(last, _) = self.item()? else {
                                return Err("a range that ends in a class".to_owned());
                            };
                            items.push(Item::Range(first, last));
                        }
                        _ => items.push(item),
                    }
                }
                self.rest.next();
                if self.fold {
                    return Err("a set without regard to case".to_owned());
                }
                Ok(Set { negated, items })
            }
            Some('.' | '^' | '$' | '*' | '+' | '?' | '{' | ')') => Err(self.other("")),
            _ => {
                let item = self.item()?;
                let mut items = vec![item];
                if let (true, Item::Range(c, _)) = (self.fold, item) {
                    let others = c.to_lowercase().chain(c.to_uppercase());
                    // Letters that fold to these without being their other case.
                    let more = match c.to_ascii_lowercase() {
                        's' => Some('\u{17f}'),
                        'k' => Some('\u{212a}'),
                        _ => None,
                    };
                    items.extend(others.chain(more).filter(|&o| o != c).map(|o| Item::Range(o, o)));
                }
                Ok(Set { negated: false, items })
            }
        }
    }

    fn item(&mut self) -> Result<Item, String> {
        let Some(c) = self.rest.next() else { return Err("an end where a character is expected".to_owned()) };
        if c != '\\' {
            return Ok(Item::Range(c, c));
        }
        let one = |c: char| Ok(Item::Range(c, c));
        for (name, item) in [
            ("p{L}", Item::Letter),
            ("P{L}", Item::NotLetter),
            ("p{N}", Item::Number),
            ("P{N}", Item::NotNumber),
        ] {
            if self.take(name) {
                return Ok(item);
            }
        }
        match self.peek() {
            Some('s') => self.rest.next().map_or_else(|| one('s'), |_| Ok(Item::Blank)),
            Some('S') => self.rest.next().map_or_else(|| one('S'), |_| Ok(Item::NotBlank)),
            Some('r') => self.rest.next().map_or_else(|| one('r'), |_| one('\r')),
            Some('n') => self.rest.next().map_or_else(|| one('n'), |_| one('\n')),
            Some('t') => self.rest.next().map_or_else(|| one('t'), |_| one('\t')),
            Some('x' | 'u') => self.code(),
            Some(c) if c.is_ascii_punctuation() || c == ' ' => {
                self.rest.next();
                one(c)
            }
            _ => Err(self.other("\\")),
        }
    }

    /// `\x85`, `\u3042`, `\x{3042}`.
    fn code(&mut self) -> Result<Item, String> {
        let digits = if self.rest.next() == Some('x') { 2 } else { 4 };
        let text = self.rest.as_str();
        let (hex, rest) = match text.strip_prefix('{').and_then(|text| text.split_once('}')) {
            Some(found) => found,
            None => text.split_at_checked(digits).ok_or_else(|| self.other("a code"))?,
        };
        let c =
            u32::from_str_radix(hex, 16).ok().and_then(char::from_u32).ok_or_else(|| self.other("a code"))?;
        self.rest = rest.chars();
        Ok(Item::Range(c, c))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(expression: &str, text: &str) -> Vec<String> {
        let pattern = Pattern::parse(expression).expect("a pattern");
        let (mut out, mut rest) = (Vec::new(), &super::super::tagged(text)[..]);
        while !rest.is_empty() {
            let n = pattern.length(rest).unwrap_or(1);
            out.push(rest[..n].iter().map(|t| t.c).collect());
            rest = &rest[n..];
        }
        out
    }

    const LLAMA: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    #[test]
    fn a_text_is_cut_as_the_expression_says() {
        let found = words(LLAMA, "It'S 東京 12345!\n\n  x  \t");
        assert_eq!(found, ["It", "'S", " 東京", " ", "123", "45", "!\n\n", " ", " x", "  \t"]);
        assert_eq!(words(r"[a-c]{2}|\x{3042}\u3044", "abcあい"), ["ab", "c", "あい"]);
    }

    #[test]
    fn what_is_not_built_is_refused() {
        for expression in [
            r"(a|b)+",
            r"a*",
            r"(?<=a)b",
            r"\bа",
            r".+",
            r"a$",
            r"\p{Han}+",
            r"\d",
            r"a+?",
            r"a++",
            r"[a&&b]",
            r"[[:alpha:]]",
            r"(?:ab",
            r"a|",
            r"(?!ab)c",
            r"a*b*c*d*e",
            "[",
            r"\",
            r"a{2",
        ] {
            assert!(Pattern::parse(expression).is_err(), "{expression}");
        }
    }
}
