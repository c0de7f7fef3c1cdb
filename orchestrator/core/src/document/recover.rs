//! Where documents of a file begin and end, also where one of them is no YAML: what
//! is kept of it, what is to blame, and where reading goes on.

use super::Document;
use super::node::{Entry, Node, Value};
use super::parse::{Content, Frame, Key, Reader, Stop, WHITE};
use super::syntax;
use crate::diagnostic::{Code, Diagnostic};
use granit_parser::Parser;
use std::sync::Arc;

/// Most documents of a file: each is checked with all that it names.
const MAX_DOCUMENTS: usize = 1_000;

/// The root of a document; of an unfinished one, with the keys down to its end.
type Root = (Node, Option<Vec<Arc<str>>>);

impl Reader<'_> {
    /// Every document of the text, as far as it can be read.
    pub(super) fn documents(&mut self) -> Vec<Document> {
        let source = Arc::clone(self.source);
        let text = source.text();
        if text.len() > self.limits.bytes {
            let message = format!("the file is larger than {} bytes", self.limits.bytes);
            self.errors.push(Diagnostic::error(
                Code::TooLarge,
                message,
                &self.place(0..0),
            ));
            return Vec::new();
        }
        let mut roots: Vec<Root> = Vec::new();
        while let Err(stop) = self.stream(&mut roots) {
            let at = stop
                .found
                .place
                .as_ref()
                .map_or(0, |place| place.range().start);
            self.errors.push(self.blamed(*stop.found));
            let next = next_document(text, self.base, at);
            roots.extend(self.unfinished());
            self.frames.clear();
            self.anchors.clear();
            match next.filter(|_| stop.goes_on && self.errors.len() < self.limits.errors) {
                Some(next) => self.base = next,
                None => break,
            }
        }
        // `---` before nothing is no document.
        roots.retain(|(root, _)| !root.is_null());
        if roots.is_empty() && self.errors.is_empty() {
            let found = Diagnostic::error(
                Code::EmptyFile,
                "the file holds no document",
                &self.place(0..0),
            );
            self.errors.push(
                found.help(
                    "a pipeline begins with `type: pipeline` and has its steps under `jobs:`",
                ),
            );
        }
        let of = roots.len();
        let document = |(index, (root, unfinished))| Document {
            source: Arc::clone(&source),
            index,
            of,
            root,
            unfinished,
        };
        roots.into_iter().enumerate().map(document).collect()
    }

    /// What is to blame where reading ended inside brackets: that they are not closed, if
    /// lines lie between.
    fn blamed(&self, found: Diagnostic) -> Diagnostic {
        let text = self.source.text();
        let open = self
            .frames
            .iter()
            .rev()
            .find(|frame| text[frame.start..].starts_with(['{', '[']));
        let (Some(frame), Some(place)) = (open, found.place.clone()) else {
            return found;
        };
        let may_follow = matches!(
            found.code,
            Code::StrayColon
                | Code::Indentation
                | Code::MissingColon
                | Code::UnclosedBracket
                | Code::Yaml
        );
        let bracket = self.place(frame.start..frame.start + 1);
        if !may_follow
            || place.range().start <= bracket.range().start
            || place.line() == bracket.line()
        {
            return found;
        }
        let close = if bracket.text() == "{" { '}' } else { ']' };
        let message = format!("`{}` is not closed", bracket.text());
        Diagnostic::error(Code::UnclosedBracket, message, &bracket)
            .label(&place, "this line cannot stand inside it")
            .help(format!(
                "close it with `{close}`, or write one line for each entry without brackets"
            ))
    }

    /// Reads documents from `base` on, to the end or to where they are no YAML.
    fn stream(&mut self, roots: &mut Vec<Root>) -> Result<(), Stop> {
        let options = granit_parser::options! {
            emit_comments: false,
            block_scalar_eof_without_line_feed: true,
            block_nesting_limit: self.limits.depth,
            flow_nesting_limit: self.limits.depth,
        };
        let source = self.source;
        let text = source.text().get(self.base..).unwrap_or_default();
        for next in Parser::new_from_str_with_options(text, options) {
            let (event, span) = next.map_err(|error| Stop {
                found: Box::new(syntax::explain(&error, self.source, self.base)),
                goes_on: true,
            })?;
            if let Some(root) = self.event(event, &span)? {
                if roots.len() == MAX_DOCUMENTS {
                    let message = format!("the file has more than {MAX_DOCUMENTS} documents");
                    let mut stop = self.stop(Code::TooLarge, message, root.place.range());
                    stop.found.help = Some("write several files".to_owned());
                    stop.goes_on = false;
                    return Err(stop);
                }
                roots.push((root, None));
            }
            if self.errors.len() >= self.limits.errors {
                break;
            }
        }
        Ok(())
    }

    /// What was read of a document before it could not be read further, without what
    /// may be misread: a value that stands directly before that place, and whatever
    /// is in brackets or in a list that are still open.
    fn unfinished(&mut self) -> Option<Root> {
        let frames = std::mem::take(&mut self.frames);
        let text = self.source.text();
        let whole = frames.len();
        let mut open: Vec<Frame> = frames
            .into_iter()
            .take_while(|frame| {
                let in_brackets = text[frame.start..].starts_with(['{', '[']);
                matches!(frame.content, Content::Mapping { .. }) && !in_brackets
            })
            .collect();
        if open.len() == whole
            && self.after_scalar
            && let Some(Frame {
                content:
                    Content::Mapping {
                        mapping, key: None, ..
                    },
                ..
            }) = open.last_mut()
        {
            mapping.pop();
        }
        let mut path = Vec::new();
        let mut inner: Option<Node> = None;
        for frame in open.into_iter().rev() {
            let Content::Mapping {
                mut mapping,
                merges,
                key,
            } = frame.content
            else {
                continue;
            };
            for merge in merges {
                // A budget that is spent ends the document, which it has already.
                if self.merge(&mut mapping, &merge).is_err() {
                    return None;
                }
            }
            if let (Some(value), Some(Key::Text(key, key_place))) = (inner.take(), key) {
                path.push(Arc::clone(&key));
                let entry = Entry {
                    key,
                    key_place,
                    value,
                };
                if mapping.add(entry).is_err() {
                    path.clear();
                }
            }
            inner = Some(Node {
                value: Value::Mapping(Arc::new(mapping)),
                place: self.place(frame.start..frame.start),
                used_at: None,
                tag: frame.tag,
            });
        }
        path.reverse();
        inner.map(|root| (root, Some(path)))
    }
}

/// Where the next document begins behind `at`, where reading the one at `from` ended.
/// `---` at the start of a line is a document's beginning wherever it stands.
fn next_document(text: &str, from: usize, at: usize) -> Option<usize> {
    let at = at.min(text.len());
    let line = text.get(..at)?.rfind('\n').unwrap_or(0).max(from);
    text.get(line..)?
        .match_indices("\n---")
        .find_map(|(found, mark)| {
            let start = line + found + 1;
            let behind = text[line + found + mark.len()..].chars().next();
            let ends = behind.is_none_or(|next| WHITE.contains(&next));
            (ends && start > from).then_some(start)
        })
}
