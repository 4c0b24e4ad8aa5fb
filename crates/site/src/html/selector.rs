//! The part of CSS selectors that settings need: names, `*`, `#id`, `.class`, `[attribute]` with `=`, `~=`, `^=`, `$=`, `*=`, the combinators for
//! descendant, child (`>`) and next sibling (`+`), and lists.
//!
//! The way not taken: a browser engine's selector crate. It is larger than the HTML parser itself, and none of what it adds makes sense in a
//! settings file for text.

use super::tree::Element;

/// A list of selectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selector(Vec<Chain>);

/// Compounds from right to left, each with how it stands to the one right of it.
type Chain = Vec<(Combinator, Vec<Simple>)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Combinator {
    /// The element itself: the rightmost compound.
    Subject,
    Descendant,
    Child,
    Next,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Simple {
    Any,
    Name(String),
    Id(String),
    Class(String),
    Attribute { name: String, test: Test, value: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    Present,
    Equals,
    Word,
    Starts,
    Ends,
    Contains,
}

impl Selector {
    /// The selectors in `text`, or what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { rest: text.trim() };
        let mut chains = vec![parser.chain()?];
        while parser.take(',') {
            parser.space();
            chains.push(parser.chain()?);
        }
        if parser.rest.is_empty() {
            Ok(Self(chains))
        } else {
            Err(format!("{:?} is not understood", parser.rest))
        }
    }

    /// Whether the element is one of those selected.
    pub(crate) fn matches(&self, element: Element<'_>) -> bool {
        self.0.iter().any(|chain| matches(chain, element))
    }
}

fn matches(chain: &[(Combinator, Vec<Simple>)], element: Element<'_>) -> bool {
    let Some(((_, compound), left)) = chain.split_first() else { return true };
    if !compound.iter().all(|simple| simple.matches(element)) {
        return false;
    }
    match left.first().map(|(combinator, _)| combinator) {
        None | Some(Combinator::Subject) => true,
        Some(Combinator::Child) => element.parent().is_some_and(|e| matches(left, e)),
        Some(Combinator::Next) => element.previous_siblings().next().is_some_and(|e| matches(left, e)),
        Some(Combinator::Descendant) => element.ancestors().any(|e| matches(left, e)),
    }
}

impl Simple {
    fn matches(&self, element: Element<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Name(name) => element.name() == name,
            Self::Id(id) => element.attribute("id") == Some(id),
            Self::Class(class) => element.classes().any(|c| c == class),
            Self::Attribute { name, test, value } => {
                element.attribute(name).is_some_and(|found| match test {
                    Test::Present => true,
                    Test::Equals => found == value,
                    Test::Word => found.split_ascii_whitespace().any(|word| word == value),
                    Test::Starts => !value.is_empty() && found.starts_with(value.as_str()),
                    Test::Ends => !value.is_empty() && found.ends_with(value.as_str()),
                    Test::Contains => !value.is_empty() && found.contains(value.as_str()),
                })
            }
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn take(&mut self, c: char) -> bool {
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn space(&mut self) -> bool {
        let trimmed = self.rest.trim_start();
        let any = trimmed.len() < self.rest.len();
        self.rest = trimmed;
        any
    }

    fn identifier(&mut self) -> Result<String, String> {
        let end = self
            .rest
            .find(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_')))
            .unwrap_or(self.rest.len());
        if end == 0 {
            return Err(format!("a name is missing before {:?}", self.rest));
        }
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(name.to_owned())
    }

    fn chain(&mut self) -> Result<Chain, String> {
        let mut left_to_right = vec![self.compound()?];
        let mut between = Vec::new();
        loop {
            let space = self.space();
            let combinator = if self.take('>') {
                Combinator::Child
            } else if self.take('+') {
                Combinator::Next
            } else if space && !self.rest.is_empty() && !self.rest.starts_with(',') {
                Combinator::Descendant
            } else {
                break;
            };
            self.space();
            between.push(combinator);
            left_to_right.push(self.compound()?);
        }
        // Each compound carries how it stands to its right neighbour.
        between.push(Combinator::Subject);
        Ok(between.into_iter().zip(left_to_right).rev().collect())
    }

    fn compound(&mut self) -> Result<Vec<Simple>, String> {
        let mut simples = Vec::new();
        if self.take('*') {
            simples.push(Simple::Any);
        } else if self.rest.starts_with(|c: char| c.is_alphabetic()) {
            simples.push(Simple::Name(self.identifier()?.to_lowercase()));
        }
        loop {
            if self.take('#') {
                simples.push(Simple::Id(self.identifier()?));
            } else if self.take('.') {
                simples.push(Simple::Class(self.identifier()?));
            } else if self.take('[') {
                simples.push(self.attribute()?);
            } else {
                break;
            }
        }
        if simples.is_empty() {
            Err(format!("a selector is missing before {:?}", self.rest))
        } else {
            Ok(simples)
        }
    }

    fn attribute(&mut self) -> Result<Simple, String> {
        self.space();
        let name = self.identifier()?.to_lowercase();
        self.space();
        let tests = [
            ("=", Test::Equals),
            ("~=", Test::Word),
            ("^=", Test::Starts),
            ("$=", Test::Ends),
            ("*=", Test::Contains),
        ];
        let Some((sign, test)) = tests.into_iter().find(|(sign, _)| self.rest.starts_with(sign)) else {
            return if self.take(']') {
                Ok(Simple::Attribute { name, test: Test::Present, value: String::new() })
            } else {
                Err("`]` is missing".to_owned())
            };
        };
        self.rest = &self.rest[sign.len()..];
        self.space();
        let value = match self.rest.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let (value, rest) =
                    self.rest[1..].split_once(quote).ok_or_else(|| format!("{quote} is missing"))?;
                self.rest = rest;
                value.to_owned()
            }
            _ => self.identifier()?,
        };
        self.space();
        if self.take(']') {
            Ok(Simple::Attribute { name, test, value })
        } else {
            Err("`]` is missing".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::html::tree::Tree;

    #[test]
    fn selectors_select_what_css_says() {
        let tree = Tree::parse(
            "<div id=a class='x y' data-n=one-two><p class=x>1</p><section><p lang=ja>2</p><i></i></section></div><p>3</p>",
        );
        let found = |selector: &str| {
            let selector = Selector::parse(selector).unwrap();
            let elements = tree.root().unwrap().elements().filter(|e| selector.matches(*e));
            elements.map(|e| e.texts().collect::<String>()).collect::<Vec<_>>().join("|")
        };
        for (selector, expected) in [
            ("p", "1|2|3"),
            ("P.x", "1"),
            (".x.y", "12"),
            ("#a p", "1|2"),
            ("#a>p", "1"),
            ("#a > section > p", "2"),
            ("div + p", "3"),
            ("p + section", "2"),
            ("[lang]", "2"),
            ("[lang=ja], #none, .y", "12|2"),
            ("div[data-n^='one-'] section *", "2|"),
            ("[data-n$=two]", "12"),
            ("[data-n*='e-t']", "12"),
            ("[class~=y] [lang]", "2"),
            ("[class='x']", "1"),
            ("body p p", ""),
        ] {
            assert_eq!(found(selector), expected, "{selector}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        for text in ["", "..x", "p >", "> p", "p,", "[a", "[a=]", "[a='x]", "p:hover", "p ~ p", "#", "{"] {
            assert!(Selector::parse(text).is_err(), "{text:?}");
        }
    }
}
