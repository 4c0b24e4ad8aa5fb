//! The parsed page: a tree in one vector, built by html5ever and read through [`Element`].
//!
//! Links are indices, so that a tree of any depth is built, walked and dropped without recursion.

use html5ever::interface::{ElementFlags, NodeOrText, QuirksMode, TreeSink};
use html5ever::tendril::{StrTendril, TendrilSink as _};
use html5ever::{Attribute, ParseOpts, QualName, parse_document};
use std::borrow::Cow;
use std::cell::{Ref, RefCell};

/// Position of a node in its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeId(u32);

#[derive(Debug, Default)]
struct Links {
    parent: Option<NodeId>,
    previous: Option<NodeId>,
    next: Option<NodeId>,
    first: Option<NodeId>,
    last: Option<NodeId>,
}

#[derive(Debug)]
enum Data {
    Document,
    Element {
        name: QualName,
        attributes: Vec<Attribute>,
        contents: Option<NodeId>,
    },
    Text(StrTendril),
    /// A comment, a processing instruction, or the contents of a template: nothing that is read.
    Silent,
}

#[derive(Debug)]
struct Node {
    links: Links,
    data: Data,
}

/// A parsed page.
#[derive(Debug)]
pub(crate) struct Tree(Vec<Node>);

impl Tree {
    /// Parses a page by the rules of the HTML standard: any text has a tree.
    pub(crate) fn parse(html: &str) -> Self {
        parse_document(
            Sink(RefCell::new(Self(vec![Node { links: Links::default(), data: Data::Document }]))),
            ParseOpts::default(),
        )
        .one(StrTendril::from_slice(html))
    }

    /// `<html>`.
    pub(crate) fn root(&self) -> Option<Element<'_>> {
        self.children(NodeId(0)).find_map(|id| self.element(id))
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.0[id.0 as usize]
    }

    fn element(&self, id: NodeId) -> Option<Element<'_>> {
        matches!(self.node(id).data, Data::Element { .. }).then_some(Element { tree: self, id })
    }

    fn children(&self, id: NodeId) -> impl Iterator<Item = NodeId> {
        core::iter::successors(self.node(id).links.first, |id| self.node(*id).links.next)
    }
}

/// An element of a tree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    tree: &'a Tree,
    id: NodeId,
}

/// A step of a walk in document order.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step<'a> {
    Open(Element<'a>),
    Text(&'a str),
    Close(Element<'a>),
}

impl<'a> Element<'a> {
    pub(crate) fn id(self) -> NodeId {
        self.id
    }

    /// Name in lower case.
    pub(crate) fn name(self) -> &'a str {
        match &self.tree.node(self.id).data {
            Data::Element { name, .. } => &name.local,
            _ => "",
        }
    }

    /// Names and values of the attributes, names in lower case.
    pub(crate) fn attributes(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let attributes = match &self.tree.node(self.id).data {
            Data::Element { attributes, .. } => &attributes[..],
            _ => &[],
        };
        attributes.iter().map(|a| (&*a.name.local, &*a.value))
    }

    pub(crate) fn attribute(self, name: &str) -> Option<&'a str> {
        self.attributes().find_map(|(n, value)| (n == name).then_some(value))
    }

    pub(crate) fn classes(self) -> impl Iterator<Item = &'a str> {
        self.attribute("class").unwrap_or_default().split_ascii_whitespace()
    }

    pub(crate) fn parent(self) -> Option<Self> {
        self.tree.element(self.tree.node(self.id).links.parent?)
    }

    /// Parents, nearest first.
    pub(crate) fn ancestors(self) -> impl Iterator<Item = Self> {
        core::iter::successors(self.parent(), |e| e.parent())
    }

    pub(crate) fn children(self) -> impl Iterator<Item = Self> {
        self.tree.children(self.id).filter_map(|id| self.tree.element(id))
    }

    /// Sibling elements before, nearest first; ends at text other than white space.
    pub(crate) fn previous_siblings(self) -> impl Iterator<Item = Self> {
        self.siblings(|links| links.previous)
    }

    /// Sibling elements after, nearest first; ends at text other than white space.
    pub(crate) fn next_siblings(self) -> impl Iterator<Item = Self> {
        self.siblings(|links| links.next)
    }

    fn siblings(self, step: fn(&Links) -> Option<NodeId>) -> impl Iterator<Item = Self> {
        let tree = self.tree;
        core::iter::successors(step(&tree.node(self.id).links), move |id| step(&tree.node(*id).links))
            .take_while(
                move |id| !matches!(&tree.node(*id).data, Data::Text(text) if !text.trim().is_empty()),
            )
            .filter_map(move |id| tree.element(id))
    }

    /// This element and all inside, in document order, with text between.
    pub(crate) fn walk(self) -> impl Iterator<Item = Step<'a>> {
        let tree = self.tree;
        let end = self.id;
        let mut at = Some((self.id, true));
        core::iter::from_fn(move || {
            loop {
                let (id, opening) = at?;
                let node = tree.node(id);
                at = match (opening, node.links.first, node.links.next) {
                    (true, Some(first), _) => Some((first, true)),
                    (true, None, _) => Some((id, false)),
                    (false, _, _) if id == end => None,
                    (false, _, Some(next)) => Some((next, true)),
                    (false, _, None) => node.links.parent.map(|parent| (parent, false)),
                };
                return Some(match &node.data {
                    Data::Element { .. } if opening => Step::Open(Self { tree, id }),
                    Data::Element { .. } => Step::Close(Self { tree, id }),
                    Data::Text(text) if opening => Step::Text(text),
                    _ => continue,
                });
            }
        })
    }

    /// This element and all elements inside.
    pub(crate) fn elements(self) -> impl Iterator<Item = Self> {
        self.walk().filter_map(|step| match step {
            Step::Open(element) => Some(element),
            _ => None,
        })
    }

    /// Pieces of text inside, as they stand.
    pub(crate) fn texts(self) -> impl Iterator<Item = &'a str> {
        self.walk().filter_map(|step| match step {
            Step::Text(text) => Some(text),
            _ => None,
        })
    }
}

struct Sink(RefCell<Tree>);

impl Sink {
    fn add(&self, data: Data) -> NodeId {
        let nodes = &mut self.0.borrow_mut().0;
        nodes.push(Node { links: Links::default(), data });
        NodeId(nodes.len() as u32 - 1)
    }
}

impl Tree {
    fn links(&mut self, id: NodeId) -> &mut Links {
        &mut self.0[id.0 as usize].links
    }

    /// Takes a node with all inside out of its place.
    fn detach(&mut self, id: NodeId) {
        let links = self.links(id);
        let (parent, previous, next) = (links.parent.take(), links.previous.take(), links.next.take());
        match (previous, parent) {
            (Some(previous), _) => self.links(previous).next = next,
            (None, Some(parent)) => self.links(parent).first = next,
            (None, None) => {}
        }
        match (next, parent) {
            (Some(next), _) => self.links(next).previous = previous,
            (None, Some(parent)) => self.links(parent).last = previous,
            (None, None) => {}
        }
    }

    fn append(&mut self, parent: NodeId, child: NodeId) {
        self.detach(child);
        let last = self.links(parent).last.replace(child);
        let links = self.links(child);
        (links.parent, links.previous) = (Some(parent), last);
        match last {
            Some(last) => self.links(last).next = Some(child),
            None => self.links(parent).first = Some(child),
        }
    }

    fn insert_before(&mut self, sibling: NodeId, child: NodeId) {
        self.detach(child);
        let Some(parent) = self.links(sibling).parent else { return };
        let previous = self.links(sibling).previous.replace(child);
        let links = self.links(child);
        (links.parent, links.previous, links.next) = (Some(parent), previous, Some(sibling));
        match previous {
            Some(previous) => self.links(previous).next = Some(child),
            None => self.links(parent).first = Some(child),
        }
    }

    /// Adds `text` to the text node `id`, if it is one.
    fn extend_text(&mut self, id: Option<NodeId>, text: &StrTendril) -> bool {
        match id.map(|id| &mut self.0[id.0 as usize].data) {
            Some(Data::Text(old)) => {
                old.push_tendril(text);
                true
            }
            _ => false,
        }
    }
}

impl TreeSink for Sink {
    type Handle = NodeId;
    type Output = Tree;
    type ElemName<'a> = Ref<'a, QualName>;

    fn finish(self) -> Tree {
        self.0.into_inner()
    }

    fn parse_error(&self, _: Cow<'static, str>) {}

    fn set_quirks_mode(&self, _: QuirksMode) {}

    fn get_document(&self) -> NodeId {
        NodeId(0)
    }

    fn same_node(&self, x: &NodeId, y: &NodeId) -> bool {
        x == y
    }

    fn elem_name<'a>(&'a self, target: &'a NodeId) -> Ref<'a, QualName> {
        Ref::map(self.0.borrow(), |tree| match &tree.node(*target).data {
            Data::Element { name, .. } => name,
            _ => unreachable!("html5ever asks only elements for their name"),
        })
    }

    fn create_element(&self, name: QualName, attributes: Vec<Attribute>, flags: ElementFlags) -> NodeId {
        let contents = flags.template.then(|| self.add(Data::Silent));
        self.add(Data::Element { name, attributes, contents })
    }

    fn create_comment(&self, _: StrTendril) -> NodeId {
        self.add(Data::Silent)
    }

    fn create_pi(&self, _: StrTendril, _: StrTendril) -> NodeId {
        self.add(Data::Silent)
    }

    fn append(&self, parent: &NodeId, child: NodeOrText<NodeId>) {
        match child {
            NodeOrText::AppendNode(child) => self.0.borrow_mut().append(*parent, child),
            NodeOrText::AppendText(text) => {
                let last = self.0.borrow().node(*parent).links.last;
                if !self.0.borrow_mut().extend_text(last, &text) {
                    let child = self.add(Data::Text(text));
                    self.0.borrow_mut().append(*parent, child);
                }
            }
        }
    }

    fn append_before_sibling(&self, sibling: &NodeId, child: NodeOrText<NodeId>) {
        match child {
            NodeOrText::AppendNode(child) => self.0.borrow_mut().insert_before(*sibling, child),
            NodeOrText::AppendText(text) => {
                let previous = self.0.borrow().node(*sibling).links.previous;
                if !self.0.borrow_mut().extend_text(previous, &text) {
                    let child = self.add(Data::Text(text));
                    self.0.borrow_mut().insert_before(*sibling, child);
                }
            }
        }
    }

    fn append_based_on_parent_node(&self, element: &NodeId, previous: &NodeId, child: NodeOrText<NodeId>) {
        if self.0.borrow().node(*element).links.parent.is_some() {
            self.append_before_sibling(element, child);
        } else {
            self.append(previous, child);
        }
    }

    fn append_doctype_to_document(&self, _: StrTendril, _: StrTendril, _: StrTendril) {}

    fn get_template_contents(&self, target: &NodeId) -> NodeId {
        match &self.0.borrow().node(*target).data {
            Data::Element { contents: Some(contents), .. } => *contents,
            _ => unreachable!("html5ever asks only templates for their contents"),
        }
    }

    fn add_attrs_if_missing(&self, target: &NodeId, new: Vec<Attribute>) {
        if let Data::Element { attributes, .. } = &mut self.0.borrow_mut().0[target.0 as usize].data {
            for attribute in new {
                if !attributes.iter().any(|a| a.name == attribute.name) {
                    attributes.push(attribute);
                }
            }
        }
    }

    fn remove_from_parent(&self, target: &NodeId) {
        self.0.borrow_mut().detach(*target);
    }

    fn reparent_children(&self, node: &NodeId, new_parent: &NodeId) {
        let mut tree = self.0.borrow_mut();
        while let Some(child) = tree.node(*node).links.first {
            tree.append(*new_parent, child);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outline(html: &str) -> String {
        let tree = Tree::parse(html);
        let mut out = String::new();
        for step in tree.root().unwrap().walk() {
            match step {
                Step::Open(e) => out += &format!("<{}>", e.name()),
                Step::Text(text) => out += text,
                Step::Close(e) => out += &format!("</{}>", e.name()),
            }
        }
        out
    }

    #[test]
    fn trees_follow_the_standard_where_tags_do_not() {
        for (html, body) in [
            ("<p>一<p>二", "<p>一</p><p>二</p>"),
            ("<b>一<p>二</b>三", "<b>一</b><p><b>二</b>三</p>"),
            ("<table>外<tr><td>中", "外<table><tbody><tr><td>中</td></tr></tbody></table>"),
            ("a<!-- x -->b&amp;c", "ab&c"),
            ("<div></div></p>", "<div></div><p></p>"),
        ] {
            assert_eq!(outline(html), format!("<html><head></head><body>{body}</body></html>"), "{html}");
        }
        assert_eq!(
            outline("<template><p>x</template>"),
            "<html><head><template></template></head><body></body></html>"
        );
    }

    #[test]
    fn neighbours_are_reached_in_both_directions() {
        let tree = Tree::parse("<a id=1></a> <b class='x y'></b>文<i></i><u></u>");
        let find = |name: &str| tree.root().unwrap().elements().find(|e| e.name() == name).unwrap();
        let names =
            |it: &mut dyn Iterator<Item = Element<'_>>| it.map(|e| e.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&mut find("b").previous_siblings()), ["a"]);
        assert!(names(&mut find("b").next_siblings()).is_empty(), "text stands between");
        assert_eq!(names(&mut find("i").next_siblings()), ["u"]);
        assert_eq!(names(&mut find("u").ancestors()), ["body", "html"]);
        assert_eq!(find("b").classes().collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(find("a").attribute("id"), Some("1"));
    }
}
