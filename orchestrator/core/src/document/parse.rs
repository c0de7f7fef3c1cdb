//! From the parser's events to the tree. What is wrong inside YAML (a duplicate
//! key) is reported, and reading goes on. At a place that is no YAML a document
//! ends (`recover`).

use super::Document;
use super::node::{Entry, Mapping, Node, Scalar, Style, Value};
use super::scalar::{Resolved, resolve_plain};
use super::source::{Place, Source};
use crate::diagnostic::{Code, Diagnostic};
use granit_parser::{Event, ScalarStyle, Span, Tag};
use std::collections::HashMap;
use std::sync::Arc;

/// What a document may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one file.
    pub bytes: usize,
    /// Levels of nesting, aliases followed.
    pub depth: usize,
    /// Values that aliases and merge keys may add, over all of a file; fewer where the
    /// file is small, so that what a file costs goes by its size.
    pub aliased_nodes: usize,
    /// Errors that are reported of one file.
    pub errors: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: super::MAX_BYTES,
            depth: 128,
            aliased_nodes: 2_000_000,
            errors: 200,
        }
    }
}

/// Values that aliases may add in any file, and for each of its bytes.
const ALIASED: (usize, usize) = (20_000, 4);

/// What a text holds, as far as it can be read.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// Its documents. Those that are [unfinished](Document::unfinished) end where
    /// they are no YAML.
    pub documents: Vec<Document>,
    /// What is not YAML, and every duplicate key.
    pub errors: Vec<Diagnostic>,
}

/// Reads every document of `source`, and goes on behind what is wrong where that is
/// possible.
#[must_use]
pub fn read(source: &Arc<Source>) -> Parsed {
    read_with(source, Limits::default())
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
    let parsed = read_with(source, limits);
    if parsed.errors.is_empty() {
        Ok(parsed.documents)
    } else {
        Err(parsed.errors)
    }
}

fn read_with(source: &Arc<Source>, limits: Limits) -> Parsed {
    let (least, each) = ALIASED;
    let by_size = source
        .text()
        .len()
        .saturating_mul(each)
        .saturating_add(least);
    let mut reader = Reader {
        source,
        limits: Limits {
            aliased_nodes: limits.aliased_nodes.min(by_size),
            ..limits
        },
        base: 0,
        errors: Vec::new(),
        anchors: HashMap::new(),
        aliased: 0,
        frames: Vec::new(),
        after_scalar: false,
    };
    let documents = reader.documents();
    Parsed {
        documents,
        errors: reader.errors,
    }
}

/// White space of YAML; other blanks of Unicode are content.
pub(super) const WHITE: [char; 4] = [' ', '\t', '\n', '\r'];

/// A document cannot be read further.
pub(super) struct Stop {
    pub(super) found: Box<Diagnostic>,
    /// Whether the documents behind it can be read.
    pub(super) goes_on: bool,
}

/// A tree with what it costs to walk it, aliases followed.
#[derive(Clone)]
pub(super) struct Built {
    node: Node,
    cost: Cost,
}

pub(super) struct Reader<'a> {
    pub(super) source: &'a Arc<Source>,
    pub(super) limits: Limits,
    /// Where the text begins that the parser reads.
    pub(super) base: usize,
    pub(super) errors: Vec<Diagnostic>,
    pub(super) anchors: HashMap<usize, Built>,
    aliased: usize,
    pub(super) frames: Vec<Frame>,
    /// Whether the last event was a scalar or an alias.
    pub(super) after_scalar: bool,
}

/// A collection that is being read.
pub(super) struct Frame {
    pub(super) start: usize,
    anchor: usize,
    pub(super) tag: Option<Arc<str>>,
    pub(super) content: Content,
    cost: Cost,
}

pub(super) enum Content {
    Sequence(Vec<Node>),
    Mapping {
        mapping: Mapping,
        merges: Vec<Node>,
        key: Option<Key>,
    },
}

pub(super) enum Key {
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
    /// Takes one event; gives the root of a document that it completes.
    pub(super) fn event(&mut self, event: Event<'_>, span: &Span) -> Result<Option<Node>, Stop> {
        let range = span.byte_range().unwrap_or(0..0);
        let range = range.start + self.base..range.end + self.base;
        self.after_scalar = matches!(event, Event::Scalar(..) | Event::Alias(..));
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
            let message = "this alias stands inside the value that its anchor names".to_owned();
            let mut stop = self.stop(Code::RecursiveAlias, message, range);
            stop.found.help = Some("name a value that is complete before this line".to_owned());
            return Err(stop);
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
            "aliases repeat values until this file stands for more than {} of them",
            self.limits.aliased_nodes
        );
        let mut stop = self.stop(Code::AliasBomb, message, range);
        stop.found.help =
            Some("write fewer aliases of aliases: each repeats all that it names".to_owned());
        stop.goes_on = false;
        Err(stop)
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
                        self.errors.push(
                            Diagnostic::error(Code::BadKey, message, &place)
                                .help("write `name: value`, one name for each value"),
                        );
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
                        Diagnostic::error(Code::DuplicateKey, message, &place)
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
                    self.errors.push(
                        Diagnostic::error(Code::BadMerge, message, &place)
                            .help("write `<<: *anchor`, an alias of a mapping that stands above"),
                    );
                } else {
                    merges.extend(nodes);
                }
            }
            Some(Key::Bad) => {}
        }
        Ok(None)
    }

    /// Adds the keys of `from` that `into` does not have.
    pub(super) fn merge(&mut self, into: &mut Mapping, from: &Node) -> Result<(), Stop> {
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

    pub(super) fn place(&self, range: std::ops::Range<usize>) -> Place {
        Place::new(self.source, range)
    }

    pub(super) fn stop(&self, code: Code, message: String, range: std::ops::Range<usize>) -> Stop {
        Stop {
            found: Box::new(Diagnostic::error(code, message, &self.place(range))),
            goes_on: true,
        }
    }

    fn too_deep(&self, at: usize) -> Stop {
        let message = format!("values are nested deeper than {} levels", self.limits.depth);
        let mut stop = self.stop(Code::TooDeep, message, at..at + 1);
        stop.found.help =
            Some("a pipeline needs a dozen levels: is a bracket left open?".to_owned());
        stop
    }
}

#[cfg(test)]
mod tests {
    use super::{Limits, parse, parse_with, read};
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
            .map(|error| {
                (
                    error.code.as_str(),
                    error.line(),
                    error.labels[0].place.line(),
                )
            })
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
        assert_eq!(errors[0].code, "alias-bomb");
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

    #[test]
    fn a_file_goes_on_behind_a_document_that_is_no_yaml() {
        let text =
            "name: a\njobs:\n  x: {command: ls}\n  y:\n    command: \"ls\n---\nname: b\n---\n@\n";
        let parsed = read(&Source::new("p.yml", text));
        let codes: Vec<_> = parsed
            .errors
            .iter()
            .map(|e| (e.code.as_str(), e.line()))
            .collect();
        assert_eq!(codes, [("unclosed-quote", 5), ("bad-character", 9)]);
        let names: Vec<_> = parsed.documents.iter().map(|d| d.name().unwrap()).collect();
        assert_eq!(names, ["a", "b"]);
        let path: Vec<&str> = parsed.documents[0]
            .unfinished
            .as_ref()
            .unwrap()
            .iter()
            .map(|key| &**key)
            .collect();
        assert_eq!(path, ["jobs", "y"]);
        assert!(
            parsed.documents[0]
                .root
                .get("jobs")
                .unwrap()
                .get("x")
                .is_some()
        );
        assert!(parsed.documents[1].unfinished.is_none());
    }

    #[test]
    fn a_value_that_may_be_misread_is_not_kept() {
        let parsed = read(&Source::new(
            "p.yml",
            "type: pipeline\nname: foo\n   bar: x\n",
        ));
        assert_eq!(parsed.errors.len(), 1);
        let root = &parsed.documents[0].root;
        assert!(root.get("type").is_some());
        assert!(root.get("name").is_none());
    }
}
