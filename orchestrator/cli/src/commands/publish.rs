//! Brings a pipeline with its files to a server, for endpoints and schedules: as a document
//! where that is all, else as a snapshot of the folder that the file is in.

use crate::args::OutputFormat;
use crate::cluster::Controller;
use crate::failure::Failure;
use crate::load::{self, Which};
use auria_core::planner;
use auria_store::snapshot;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The largest document that is brought as it is.
const LARGEST_DOCUMENT: usize = 256 * 1024;

/// Checks the pipeline of `file` and brings it: `document`, or `snapshot` and `file`.
///
/// # Errors
/// Where it is wrong, reads files outside of its folder, or the server refuses.
pub async fn bring(
    server: &Controller,
    file: &Path,
    pipeline: Option<&str>,
    set: &[String],
) -> Result<Value, Failure> {
    let which = pipeline.map_or(Which::First, Which::Named);
    let absolute = std::path::absolute(file)
        .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    let folder = absolute
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_owned);
    let checked = load::check_within(file, which, set, Some(&folder))?;
    load::report(&checked.diagnostics, &checked.names, OutputFormat::Text)?;
    let text =
        load::read(file).map_err(|why| Failure::usage(format!("{}: {why}", file.display())))?;
    let mut alone =
        text.len() <= LARGEST_DOCUMENT && !String::from_utf8_lossy(&text).contains("component");
    for found in &checked.pipelines {
        for need in planner::needs(found).paths {
            alone = false;
            if !load::is_within(Path::new(&need.path), &folder) {
                return Err(Failure::usage(format!(
                    "`{}` lies outside of {}, which is what is published",
                    need.path,
                    folder.display()
                ))
                .help("move the pipeline file upward, or the files beside it"));
            }
        }
    }
    if alone {
        return Ok(json!({"document": String::from_utf8_lossy(&text)}));
    }
    let scanned = snapshot::scan(&folder, &[]).await?;
    let name = absolute
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    eprintln!(
        "publishing {}: {}, {} KiB",
        folder.display(),
        load::count(
            usize::try_from(scanned.files()).unwrap_or(usize::MAX),
            "file"
        ),
        scanned.bytes().div_ceil(1024)
    );
    snapshot::upload(&server.store, &scanned).await?;
    Ok(json!({"snapshot": scanned.digest, "file": name}))
}
