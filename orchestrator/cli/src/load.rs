//! From a file's path to a checked pipeline: reads the file and those that it
//! names, within bounds, and prints what is wrong with them.

use crate::args::OutputFormat;
use crate::edge::Terminal;
use crate::failure::{Failure, exit};
use auria_core::check::{self, Loaded, Pipeline};
use auria_core::diagnostic::{Code, Diagnostic, RenderOptions, Severity, render};
use auria_core::document::{self, Document, MAX_BYTES, Node, Place, Source};
use serde_json::json;
use std::io::Read;
use std::path::Path;

/// A file's bytes, one more than any file may have at the most.
///
/// # Errors
/// Why there are none, for people.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    let file = std::fs::File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "you may not read it".to_owned(),
        _ => error.to_string(),
    })?;
    match file.metadata() {
        Ok(meta) if meta.is_dir() => return Err("it is a folder".to_owned()),
        // A pipe or a device may have no end, or nothing to give.
        Ok(meta) if !meta.is_file() => return Err("it is no regular file".to_owned()),
        _ => {}
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// What a file holds, checked.
pub struct Checked {
    /// Pipelines without an error, in the order of the file.
    pub pipelines: Vec<Pipeline>,
    /// Names of all pipelines of the file, also of those with errors.
    pub names: Vec<String>,
    /// What there is to say.
    pub diagnostics: Vec<Diagnostic>,
}

/// Which documents of a file are meant.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    /// All.
    All,
    /// The one of this name; of a file with one document that one.
    Named(&'a str),
    /// The first.
    First,
}

/// Reads and checks `path`, after the changes of `--set`. A file that cannot be read
/// is one of the diagnostics, so that others are checked all the same.
///
/// # Errors
/// Where the file holds no pipeline of that name.
pub fn check(path: &Path, which: Which<'_>, sets: &[String]) -> Result<Checked, Failure> {
    check_within(path, which, sets, None)
}

/// As [`check`]; where `within` says so, no file outside of that folder is read.
///
/// # Errors
/// As [`check`].
pub fn check_within(
    path: &Path,
    which: Which<'_>,
    sets: &[String],
    within: Option<&Path>,
) -> Result<Checked, Failure> {
    let shown = path.to_string_lossy().into_owned();
    let mut checked = Checked {
        pipelines: vec![],
        names: vec![],
        diagnostics: vec![],
    };
    let source = match read(path) {
        Ok(bytes) => document::decode(&shown, bytes),
        Err(why) => Err(Box::new(unreadable(&shown, &why))),
    };
    let source = match source {
        Ok(source) => source,
        Err(found) => {
            checked.diagnostics.push(*found);
            return Ok(checked);
        }
    };
    let parsed = document::read(&source);
    checked.diagnostics = parsed.errors;
    checked
        .diagnostics
        .extend(check::check_names(&parsed.documents));
    checked.names.extend(
        parsed
            .documents
            .iter()
            .filter_map(|document| document.name().map(str::to_owned)),
    );
    if parsed.documents.is_empty() {
        return Ok(checked);
    }
    let mut loaded = Loaded::new();
    for mut document in pick(parsed.documents, which, &shown, &checked.names)? {
        checked
            .diagnostics
            .extend(auria_core::set::apply(&mut document, sets));
        loaded.add(&document, |path| match within {
            Some(folder) if !is_within(Path::new(path), folder) => {
                Err("it lies outside of what was submitted".to_owned())
            }
            _ => read(Path::new(path)),
        });
        let found = if matches!(which, Which::All) && is_component(&document) {
            check::check_component(&document, &loaded)
        } else {
            check::check_pipeline(&document, &loaded)
        };
        if found.pipeline.is_none() && document.unfinished.is_none() {
            // Those of a pipeline that can be planned are looked up when that is known.
            let missing = found.files.iter();
            let missing = missing.filter(|(path, _)| !Path::new(path).exists());
            checked
                .diagnostics
                .extend(missing.map(|(path, place)| file_not_found(path, place)));
        }
        checked.pipelines.extend(found.pipeline);
        checked.diagnostics.extend(found.diagnostics);
    }
    auria_core::diagnostic::sort(&mut checked.diagnostics);
    Ok(checked)
}

/// Whether `path` lies in `folder`, whatever links and dots lead to.
pub fn is_within(path: &Path, folder: &Path) -> bool {
    let found = path.canonicalize();
    // What is not there is not read either; what may be made there is judged by its words.
    let found = found.or_else(|_| std::path::absolute(path));
    let plain = |path: &Path| {
        !path
            .components()
            .any(|part| part == std::path::Component::ParentDir)
    };
    match (found, folder.canonicalize()) {
        (Ok(path), Ok(folder)) => path.starts_with(&folder) && plain(&path),
        _ => false,
    }
}

/// Whether a document is the component of a command, which no pipeline is.
fn is_component(document: &Document) -> bool {
    let kind = document.root.get("type").and_then(Node::as_text);
    kind == Some("command") || (kind.is_none() && document.root.get("command").is_some())
}

/// A file or folder that a document names and that is not there.
pub fn file_not_found(path: &str, place: &Place) -> Diagnostic {
    let message = format!("`{path}`: there is no such file or folder");
    Diagnostic::error(Code::FileNotFound, message, place)
        .help("paths are relative to the folder of the file that names them")
}

fn unreadable(file: &str, why: &str) -> Diagnostic {
    let place = Place::new(&Source::new(file, ""), 0..0);
    Diagnostic::error(Code::FileNotFound, format!("{file}: {why}"), &place)
        .help("say which file: `auria-pipeline validate FILE`, `auria-pipeline submit FILE`")
}

fn pick(
    documents: Vec<Document>,
    which: Which<'_>,
    file: &str,
    names: &[String],
) -> Result<Vec<Document>, Failure> {
    let single = documents.len() == 1;
    match which {
        Which::All => Ok(documents),
        Which::First => Ok(documents.into_iter().take(1).collect()),
        Which::Named(name) => {
            let found: Vec<Document> = documents
                .into_iter()
                .filter(|document| {
                    document.name() == Some(name) || (single && document.name().is_none())
                })
                .take(1)
                .collect();
            if found.is_empty() {
                return Err(Failure::usage(format!("{file} has no pipeline `{name}`"))
                    .help(format!("it has {}", names.join(", "))));
            }
            Ok(found)
        }
    }
}

/// Prints diagnostics: for people on standard error, as JSON on standard output.
///
/// # Errors
/// Exit 2 where one of them is an error.
pub fn report(
    diagnostics: &[Diagnostic],
    names: &[String],
    output: OutputFormat,
) -> Result<(), Failure> {
    let errors = diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.is_error())
        .count();
    if output == OutputFormat::Json {
        if errors > 0 {
            let value = json!({"valid": false, "pipelines": names, "diagnostics": diagnostics});
            crate::print::result(output, &value, String::new)?;
            return Err(Failure::silent(exit::USAGE));
        }
        return Ok(());
    }
    if diagnostics.is_empty() {
        return Ok(());
    }
    let terminal = Terminal::of_stderr();
    let options = RenderOptions {
        color: terminal.colour,
        width: terminal.width.min(120),
    };
    eprint!("{}", render(diagnostics, options));
    if errors > 0 {
        let warnings = diagnostics
            .iter()
            .filter(|found| found.severity == Severity::Warning)
            .count();
        let also = if warnings > 0 {
            format!(" and {}", count(warnings, "warning"))
        } else {
            String::new()
        };
        return Err(Failure::usage(format!(
            "{}{also}; nothing was started",
            count(errors, "error")
        )));
    }
    Ok(())
}

/// `1 error`, `2 errors`.
pub fn count(number: usize, what: &str) -> String {
    if number == 1 {
        format!("1 {what}")
    } else {
        format!("{number} {what}s")
    }
}
