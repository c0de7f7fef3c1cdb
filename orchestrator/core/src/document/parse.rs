//! From the parser's events to the tree. It stops at the first place that is not
//! YAML, since nothing behind it can be trusted; duplicate keys and the like are
//! reported all at once.

use super::Document;
use super::node::{Entry, Mapping, Node, Scalar, Style, Value};
use super::scalar::{Resolved, resolve_plain};
use super::source::{Place, Source};
use crate::diagnostic::Diagnostic;
use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, Tag};
use std::collections::HashMap;
use std::sync::Arc;

/// What a document may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one file.
    pub bytes: usize,
    /// Levels of nesting, aliases followed.
    pub depth: usize,
    /// Values that aliases and merge keys may add, over all of a file.
    pub aliased_nodes: usize,
    /// Errors that are reported of one file.
    pub errors: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 256 << 20,
            depth: 128,
            aliased_nodes: 2_000_000,
            errors: 200,
        }
    }
}

/// Reads every document of the text of the file `name`.
///
/// # Errors
/// What is not YAML, and every duplicate key.
pub fn parse(name: &str, text: &str) -> Result<Vec<Document>, Vec<Diagnostic>> {
    parse_source(&Source::new(name, text))
}

/// Reads every document of `source`.
///
/// # Errors
/// As [`parse`].
pub fn parse_source(source: &Arc<Source>) -> Result<Vec<Document>, Vec<Diagnostic>> {
    parse_with(source, Limits::default())
}

/// Reads every document of `source` within `limits`.
///
/// # Errors
/// As [`parse`].
pub fn parse_with(source: &Arc<Source>, limits: Limits) -> Result<Vec<Document>, Vec<Diagnostic>> {
    let mut reader = Reader {
        source,
        limits,
        errors: Vec::new(),
        anchors: HashMap::new(),
        aliased: 0,
        frames: Vec::new(),
    };
    let documents = match reader.documents() {
        Ok(documents) => documents,
        Err(Stop(diagnostic)) => {
            reader.errors.push(*diagnostic);
            Vec::new()
        }
    };
    if reader.errors.is_empty() {
        Ok(documents)
    } else {
        Err(reader.errors)
    }
}

/// White space of YAML; other blanks of Unicode are content.
const WHITE: [char; 4] = [' ', '\t', '\n', '\r'];

/// Reading cannot go on.
struct Stop(Box<Diagnostic>);

/// A tree with what it costs to walk it, aliases followed.
#[derive(Clone)]
struct Built {
    node: Node,
    cost: Cost,
}

struct Reader<'a> {
    source: &'a Arc<Source>,
    limits: Limits,
    errors: Vec<Diagnostic>,
    anchors: HashMap<usize, Built>,
    aliased: usize,
    frames: Vec<Frame>,
}

/// A collection that is being read.
struct Frame {
    start: usize,
    anchor: usize,
    tag: Option<Arc<str>>,
    content: Content,
    cost: Cost,
}

enum Content {
    Sequence(Vec<Node>),
    Mapping {
        mapping: Mapping,
        merges: Vec<Node>,
        key: Option<Key>,
    },
}

enum Key {
    Text(Arc<str>, Place),
    Merge(Place),
    /// Already reported; its value is dropped.
    Bad,
}

/// What it costs to walk a tree.
#[derive(Clone, Copy, Default)]
struct Cost {
    nodes: usize,
    depth: usize,
}

impl Reader<'_> {
    fn documents(&mut self) -> Result<Vec<Document>, Stop> {
        let source = Arc::clone(self.source);
        if source.text().len() > self.limits.bytes {
            let message = format!("the file is larger than {} bytes", self.limits.bytes);
            return Err(self.stop("too-large", message, 0..0));
        }
        let options = granit_parser::options! {
            emit_comments: false,
            block_scalar_eof_without_line_feed: true,
            block_nesting_limit: self.limits.depth,
            flow_nesting_limit: self.limits.depth,
        };
        let mut roots = Vec::new();
        for next in Parser::new_from_str_with_options(source.text(), options) {
            let (event, span) = next.map_err(|error| self.syntax(&error))?;
            if let Some(root) = self.event(event, &span)? {
                roots.push(root);
            }
            if self.errors.len() >= self.limits.errors {
                break;
            }
        }
        // `---` before nothing is no document.
        roots.retain(|root| !root.is_null());
        if roots.is_empty() && self.errors.is_empty() {
            return Err(self.stop("empty-file", "the file holds no document".to_owned(), 0..0));
        }
        let of = roots.len();
        let document = |(index, root)| Document {
            source: Arc::clone(&source),
            index,
            of,
            root,
        };
        Ok(roots.into_iter().enumerate().map(document).collect())
    }

    /// Takes one event; gives the root of a document that it completes.
    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<Option<Node>, Stop> {
        let range = span.byte_range().unwrap_or(0..0);
        let built = match event {
            Event::DocumentStart(..) => {
                self.anchors.clear();
                return Ok(None);
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.scalar(&text, style, anchor, tag.as_deref(), range)
            }
            Event::Alias(id) => self.alias(id, range)?,
            Event::SequenceStart(_, anchor, tag) => {
                return self.open(
                    Content::Sequence(Vec::new()),
                    anchor,
                    tag.as_deref(),
                    range.start,
                );
            }
            Event::MappingStart(_, anchor, tag) => {
                let content = Content::Mapping {
                    mapping: Mapping::default(),
                    merges: Vec::new(),
                    key: None,
                };
                return self.open(content, anchor, tag.as_deref(), range.start);
            }
            Event::SequenceEnd | Event::MappingEnd => match self.frames.pop() {
                Some(frame) => self.close(frame, range.end)?,
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        self.attach(built)
    }

    fn open(
        &mut self,
        content: Content,
        anchor: usize,
        tag: Option<&Tag>,
        start: usize,
    ) -> Result<Option<Node>, Stop> {
        let tag = tag.map(|tag| Arc::from(tag.original()));
        self.frames.push(Frame {
            start,
            anchor,
            tag,
            content,
            cost: Cost { nodes: 1, depth: 1 },
        });
        if self.frames.len() > self.limits.depth {
            return Err(self.too_deep(start));
        }
        Ok(None)
    }

    fn close(&mut self, frame: Frame, end: usize) -> Result<Built, Stop> {
        let value = match frame.content {
            Content::Sequence(items) => Value::Sequence(Arc::new(items)),
            Content::Mapping {
                mut mapping,
                merges,
                key: _,
            } => {
                for merge in merges {
                    self.merge(&mut mapping, &merge)?;
                }
                Value::Mapping(Arc::new(mapping))
            }
        };
        // A block collection ends before the next key; what stands between is not part of it.
        let text = &self.source.text()[frame.start..end.max(frame.start)];
        let end = frame.start + text.trim_end_matches(WHITE).len();
        let node = Node {
            value,
            place: self.place(frame.start..end),
            used_at: None,
            tag: frame.tag,
        };
        let built = Built {
            node,
            cost: frame.cost,
        };
        if frame.anchor != 0 {
            self.anchors.insert(frame.anchor, built.clone());
        }
        Ok(built)
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        mut range: std::ops::Range<usize>,
    ) -> Built {
        let style = match style {
            ScalarStyle::Plain => Style::Plain,
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
            ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
        };
        // The parser gives `~` where nothing stands.
        let text = if style == Style::Plain && range.is_empty() {
            ""
        } else {
            text
        };
        let raw = self.source.text().get(range.clone()).unwrap_or_default();
        range.end = range.start + raw.trim_end_matches(WHITE).len();
        let tag_name = tag.map(Tag::original);
        let resolved = match tag.and_then(Tag::core_suffix) {
            Some("str") => Resolved::Text,
            Some(_) => resolve_plain(text),
            None if style != Style::Plain || tag_name.as_deref() == Some("!") => Resolved::Text,
            None => resolve_plain(text),
        };
        let scalar = Scalar {
            text: text.to_owned(),
            style,
            resolved,
        };
        let node = Node {
            value: Value::Scalar(Arc::new(scalar)),
            place: self.place(range),
            used_at: None,
            tag: tag_name.map(Arc::from),
        };
        let built = Built {
            node,
            cost: Cost { nodes: 1, depth: 0 },
        };
        if anchor != 0 {
            self.anchors.insert(anchor, built.clone());
        }
        built
    }

    fn alias(&mut self, id: usize, range: std::ops::Range<usize>) -> Result<Built, Stop> {
        let Some(mut built) = self.anchors.get(&id).cloned() else {
            let message = "an anchor cannot stand for what it is itself a part of".to_owned();
            return Err(self.stop("yaml", message, range));
        };
        self.spend(built.cost.nodes, range.clone())?;
        if self.frames.len() + built.cost.depth > self.limits.depth {
            return Err(self.too_deep(range.start));
        }
        built.node.used_at = Some(self.place(range));
        Ok(built)
    }

    /// Counts values that aliases add, so that a small file cannot become a huge tree.
    fn spend(&mut self, nodes: usize, range: std::ops::Range<usize>) -> Result<(), Stop> {
        self.aliased = self.aliased.saturating_add(nodes);
        if self.aliased <= self.limits.aliased_nodes {
            return Ok(());
        }
        let message = format!(
            "aliases make this file larger than {} values",
            self.limits.aliased_nodes
        );
        Err(self.stop("too-large", message, range))
    }

    /// Puts a finished value where it belongs; gives it back where it is a root.
    fn attach(&mut self, built: Built) -> Result<Option<Node>, Stop> {
        let Some(frame) = self.frames.last_mut() else {
            return Ok(Some(built.node));
        };
        frame.cost.nodes = frame.cost.nodes.saturating_add(built.cost.nodes);
        frame.cost.depth = frame.cost.depth.max(built.cost.depth + 1);
        let (mapping, merges, key) = match &mut frame.content {
            Content::Sequence(items) => {
                items.push(built.node);
                return Ok(None);
            }
            Content::Mapping {
                mapping,
                merges,
                key,
            } => (mapping, merges, key),
        };
        match key.take() {
            None => {
                let place = built.node.shown_at().clone();
                *key = Some(match built.node.as_scalar() {
                    Some(scalar) if scalar.style == Style::Plain && scalar.text == "<<" => {
                        Key::Merge(place)
                    }
                    Some(scalar) => Key::Text(Arc::from(scalar.text.as_str()), place),
                    None => {
                        let message = format!("a key must be text, not {}", built.node.kind());
                        self.errors
                            .push(Diagnostic::error("bad-key", message, &place));
                        Key::Bad
                    }
                });
            }
            Some(Key::Text(text, place)) => {
                let entry = Entry {
                    key: Arc::clone(&text),
                    key_place: place.clone(),
                    value: built.node,
                };
                if let Err(first) = mapping.add(entry) {
                    let message = format!("the key `{text}` stands here twice");
                    self.errors.push(
                        Diagnostic::error("duplicate-key", message, &place)
                            .label(&first, "first here")
                            .help("remove one of them, or give it another name"),
                    );
                }
            }
            Some(Key::Merge(place)) => {
                let nodes = match &built.node.value {
                    Value::Sequence(items) => items.to_vec(),
                    _ => vec![built.node],
                };
                if let Some(bad) = nodes.iter().find(|node| node.as_mapping().is_none()) {
                    let message = format!(
                        "`<<` takes a mapping or a list of mappings, not {}",
                        bad.kind()
                    );
                    self.errors
                        .push(Diagnostic::error("bad-merge", message, &place));
                } else {
                    merges.extend(nodes);
                }
            }
            Some(Key::Bad) => {}
        }
        Ok(None)
    }

    /// Adds the keys of `from` that `into` does not have.
    fn merge(&mut self, into: &mut Mapping, from: &Node) -> Result<(), Stop> {
        let Some(mapping) = from.as_mapping() else {
            return Ok(());
        };
        self.spend(mapping.len(), from.shown_at().range())?;
        for entry in mapping.iter() {
            if into.get(&entry.key).is_none() {
                into.set(entry.clone());
            }
        }
        Ok(())
    }

    fn place(&self, range: std::ops::Range<usize>) -> Place {
        Place::new(self.source, range)
    }

    fn stop(&self, code: &'static str, message: String, range: std::ops::Range<usize>) -> Stop {
        Stop(Box::new(Diagnostic::error(
            code,
            message,
            &self.place(range),
        )))
    }

    fn too_deep(&self, at: usize) -> Stop {
        let message = format!("values are nested deeper than {} levels", self.limits.depth);
        self.stop("too-deep", message, at..at + 1)
    }

    fn syntax(&self, error: &ScanError) -> Stop {
        let at = error.marker().byte_offset().unwrap_or(0);
        let place = self.place(at..at + 1);
        let diagnostic = Diagnostic::error(
            "yaml",
            format!("this is not YAML: {}", reason(error)),
            &place,
        );
        let line = self.source.text()[..place.range().start]
            .rfind('\n')
            .map_or(0, |end| end + 1);
        let indent: String = self.source.text()[line..]
            .chars()
            .take_while(|character| matches!(character, ' ' | '\t'))
            .collect();
        Stop(Box::new(
            if indent.contains('\t') || reason(error).contains(" tab") {
                diagnostic.help("YAML does not allow tabs for indentation: use spaces")
            } else {
                diagnostic
            },
        ))
    }
}

/// What the parser says, without the place, which is reported on its own.
fn reason(error: &ScanError) -> String {
    match error.kind() {
        ErrorKind::UnknownAnchor => "no anchor of this name stands before it".to_owned(),
        ErrorKind::UnclosedFlowCollection { open } => format!("`{open}` is not closed"),
        _ => error.info(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Limits, parse, parse_with};
    use crate::document::{Resolved, Source};

    #[test]
    fn every_value_keeps_its_place() {
        let text = "a: &x\n  b: [1, 'two']\n  c:\nd: *x\n";
        let documents = parse("p.yml", text).unwrap();
        let root = &documents[0].root;
        let two = &root
            .get("a")
            .unwrap()
            .get("b")
            .unwrap()
            .as_sequence()
            .unwrap()[1];
        assert_eq!(two.place.to_string(), "p.yml:2:10");
        assert_eq!(two.place.text(), "'two'");
        let alias = root.get("d").unwrap();
        assert_eq!(alias.used_at.as_ref().unwrap().to_string(), "p.yml:4:4");
        assert_eq!(alias.place.to_string(), "p.yml:2:3");
        assert!(root.get("a").unwrap().get("c").unwrap().is_null());
    }

    #[test]
    fn merged_keys_give_way_to_written_ones() {
        let text = "base: &b {x: 1, y: 2}\nmore: &m {y: 3, z: 4}\nq:\n  <<: [*b, *m]\n  x: 9\n";
        let documents = parse("p.yml", text).unwrap();
        let merged = documents[0].root.get("q").unwrap();
        let read = |key: &str| merged.get(key).unwrap().as_text().unwrap().to_owned();
        assert_eq!(
            (read("x"), read("y"), read("z")),
            ("9".into(), "2".into(), "4".into())
        );
    }

    #[test]
    fn all_duplicate_keys_are_reported_with_both_places() {
        let errors = parse("p.yml", "a: 1\nb: 2\na: 3\nc: {d: 1, d: 2}\n").unwrap_err();
        let places: Vec<_> = errors
            .iter()
            .map(|error| (error.code, error.line(), error.labels[0].place.line()))
            .collect();
        assert_eq!(places, [("duplicate-key", 3, 1), ("duplicate-key", 4, 4)]);
    }

    #[test]
    fn alias_bombs_are_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            let items = vec![format!("*a{}", i - 1); 10].join(", ");
            text.push_str(&format!("a{i}: &a{i} [{items}]\n"));
        }
        let errors = parse("bomb.yml", &text).unwrap_err();
        assert_eq!(errors[0].code, "too-large");
        let deep: String = (1..200)
            .map(|i| format!("a{i}: &a{i} [*a{}]\n", i - 1))
            .collect();
        let errors = parse("deep.yml", &format!("a0: &a0 []\n{deep}")).unwrap_err();
        assert_eq!(errors[0].code, "too-deep");
        let nested = format!("{}{}", "[".repeat(500), "]".repeat(500));
        assert!(parse("nested.yml", &nested).is_err());
    }

    #[test]
    fn several_documents_and_tags() {
        let documents =
            parse("p.yml", "name: a\n---\nname: !!str 010\nv: !thing 3\n---\n").unwrap();
        assert_eq!(documents.len(), 2);
        assert_eq!(
            documents[1]
                .root
                .get("name")
                .unwrap()
                .as_scalar()
                .unwrap()
                .resolved,
            Resolved::Text
        );
        assert_eq!(
            documents[1].root.get("v").unwrap().tag.as_deref(),
            Some("!thing")
        );
    }

    #[test]
    fn large_files_are_refused() {
        let limits = Limits {
            bytes: 10,
            ..Limits::default()
        };
        let errors = parse_with(&Source::new("p.yml", "a: 123456789\n"), limits).unwrap_err();
        assert_eq!(errors[0].code, "too-large");
    }
}
