//! `validate` and `plan`: say what is wrong, or what would run. Nothing is started.

use crate::args::{Global, OutputFormat, PlanArgs, Validate};
use crate::failure::{Failure, exit};
use crate::graph;
use crate::load::{self, Which};
use crate::planning;
use crate::print;
use auria_core::diagnostic::Diagnostic;
use serde_json::json;

/// Checks files.
///
/// # Errors
/// Exit 2 where one of them has an error or cannot be read.
pub fn validate(global: &Global, args: &Validate) -> Result<u8, Failure> {
    let mut names: Vec<String> = Vec::new();
    let mut diagnostics: Vec<Diagnostic> = Vec::new();
    for file in &args.files {
        let checked = load::check(file, Which::All, &args.set)?;
        names.extend(checked.names);
        diagnostics.extend(checked.diagnostics);
        for pipeline in &checked.pipelines {
            diagnostics.extend(planning::missing_files(pipeline));
        }
    }
    auria_core::diagnostic::sort(&mut diagnostics);
    load::report(&diagnostics, &names, global.output)?;
    let value = json!({"valid": true, "pipelines": names, "diagnostics": diagnostics});
    print::result(global.output, &value, || {
        let files = load::count(args.files.len(), "file");
        let warnings = if diagnostics.is_empty() {
            String::new()
        } else {
            format!(", {}", load::count(diagnostics.len(), "warning"))
        };
        format!("{files} valid{warnings}: {}\n", names.join(", "))
    })?;
    Ok(exit::DONE)
}

/// Prints a plan.
///
/// # Errors
/// Exit 2 where the file has an error.
pub async fn plan(global: &Global, args: &PlanArgs) -> Result<u8, Failure> {
    let planned = planning::plan(global, &args.file, None, false).await?;
    match global.output {
        OutputFormat::Text => print::raw(graph::text(&planned.plan).as_bytes())?,
        OutputFormat::Json => print::result(global.output, &planned.plan, String::new)?,
        OutputFormat::Mermaid => print::raw(graph::mermaid(&planned.plan).as_bytes())?,
        OutputFormat::Dot => print::raw(graph::dot(&planned.plan).as_bytes())?,
        OutputFormat::Svg => print::raw(graph::svg(&planned.plan).as_bytes())?,
    }
    Ok(exit::DONE)
}
