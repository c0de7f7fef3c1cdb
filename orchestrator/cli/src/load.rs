//! From a file's path to a checked pipeline: reads the file and those that it
//! names, within bounds, and prints what is wrong with them.

use crate::args::OutputFormat;
use crate::edge::Terminal;
use crate::failure::{Failure, exit};
use auria_core::check::{self, Loaded, Pipeline};
use auria_core::diagnostic::{Diagnostic, RenderOptions, Severity, render};
use auria_core::document::{self, Document, Source};
use serde_json::json;
use std::io::Read;
use std::path::Path;

/// A larger file is no pipeline.
const MAX_BYTES: u64 = 16 << 20;

/// A file's text.
///
/// # Errors
/// Why there is none, for people.
pub fn read(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => error.to_string(),
    })?;
    if file.metadata().is_ok_and(|meta| meta.is_dir()) {
        return Err("it is a folder".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!(
            "it has more than {} MiB: a pipeline file is text that people write",
            MAX_BYTES >> 20
        ));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err("it is UTF-16: save it as UTF-8".to_owned());
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("it is not UTF-8 text (byte {at}): is it a pipeline file?")
    })
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

/// Reads and checks `path`, after the changes of `--set`.
///
/// # Errors
/// Where the file cannot be read, or holds no pipeline of that name.
pub fn check(path: &Path, which: Which<'_>, sets: &[String]) -> Result<Checked, Failure> {
    let shown = path.to_string_lossy().into_owned();
    let text = read(path).map_err(|why| {
        let failure = Failure::usage(format!("{shown}: {why}"));
        if path.exists() {
            failure
        } else {
            failure.help("say which file: `auria-pipeline submit FILE`")
        }
    })?;
    let documents = match document::parse_source(&Source::new(shown.clone(), text)) {
        Ok(documents) => documents,
        Err(diagnostics) => {
            return Ok(Checked {
                pipelines: vec![],
                names: vec![],
                diagnostics,
            });
        }
    };
    let mut checked = Checked {
        pipelines: vec![],
        names: vec![],
        diagnostics: check::check_names(&documents),
    };
    checked.names.extend(
        documents
            .iter()
            .filter_map(|document| document.name().map(str::to_owned)),
    );
    for mut document in pick(documents, which, &shown, &checked.names)? {
        checked
            .diagnostics
            .extend(auria_core::set::apply(&mut document, sets));
        let loaded = Loaded::load(&document, |path| read(Path::new(path)));
        let (pipeline, diagnostics) = check::check(&document, &loaded);
        checked.pipelines.extend(pipeline);
        checked.diagnostics.extend(diagnostics);
    }
    auria_core::diagnostic::sort(&mut checked.diagnostics);
    Ok(checked)
}

fn pick(
    documents: Vec<Document>,
    which: Which<'_>,
    file: &str,
    names: &[String],
) -> Result<Vec<Document>, Failure> {
    if documents.is_empty() {
        return Err(
            Failure::usage(format!("{file}: there is no document in it"))
                .help("a pipeline begins with `type: pipeline` and has `jobs:`"),
        );
    }
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
