//! `model`: the registry's models.

use crate::args::{Global, Model};
use crate::failure::{Failure, exit};
use crate::open;
use crate::print;
use crate::report::plain;
use auria_store::registry::{self, AssetRecord};
use auria_store::{Access, Store};
use serde_json::json;
use std::fmt::Write as _;

const KIND: &str = "model";

/// Lists or shows models.
///
/// # Errors
/// Where the store cannot be read, or there is no such model.
pub async fn model(global: &Global, args: &Model) -> Result<u8, Failure> {
    let store = open::existing(global, Access::Read).await?.store;
    match args {
        Model::List => {
            let listed = registry::list(&store, KIND).await?;
            print::result(global.output, &listed, || {
                if listed.is_empty() {
                    return "no models are registered; an output with `name` and `type: custom_model` is\n".to_owned();
                }
                listed
                    .iter()
                    .map(|model| {
                        format!("{}  versions {}\n", model.name, model.versions.join(", "))
                    })
                    .collect()
            })?;
        }
        Model::Show { model } => {
            let (name, version) = parse(model);
            let records = match version {
                Some(version) => vec![registry::show(&store, KIND, name, version).await?],
                None => registry::versions(&store, KIND, name).await?,
            };
            if records.is_empty() {
                return Err(Failure::usage(format!("no model is called {name}"))
                    .help("`auria-pipeline model list` lists them"));
            }
            let value = json!(
                records
                    .iter()
                    .map(|record| to_json(&store, record))
                    .collect::<Vec<_>>()
            );
            print::result(global.output, &value, || {
                records.iter().map(|record| text(&store, record)).collect()
            })?;
        }
    }
    Ok(exit::DONE)
}

/// `NAME`, `NAME:VERSION`, `NAME@latest`, each also after `azureml:`.
fn parse(text: &str) -> (&str, Option<&str>) {
    let text = text.strip_prefix("azureml:").unwrap_or(text);
    match text.split_once([':', '@']) {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    }
}

fn to_json(store: &Store, record: &AssetRecord) -> serde_json::Value {
    json!({
        "name": record.name,
        "version": record.version,
        "uri": store.uri(&record.artifact.prefix),
        "type": record.artifact.data_type,
        "files": record.artifact.files,
        "bytes": record.artifact.bytes,
        "digest": record.artifact.digest,
        "created": record.created,
        "origin": record.origin,
        "tags": record.tags,
    })
}

fn text(store: &Store, record: &AssetRecord) -> String {
    let mut text = format!("{}:{}\n", record.name, record.version);
    // Writing to a string cannot fail.
    let _ = writeln!(text, "  created  {}", record.created);
    let _ = writeln!(
        text,
        "  files    {}, {} bytes",
        record.artifact.files, record.artifact.bytes
    );
    let _ = writeln!(text, "  digest   {}", record.artifact.digest);
    let _ = writeln!(
        text,
        "  at       {}",
        plain(&store.uri(&record.artifact.prefix))
    );
    if let Some(origin) = &record.origin {
        let _ = writeln!(
            text,
            "  from     {} of {} in run {}",
            origin.output,
            origin.step.display(),
            origin.run
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn every_form_of_a_models_name() {
        assert_eq!(parse("auria-haiku"), ("auria-haiku", None));
        assert_eq!(parse("auria-haiku:3"), ("auria-haiku", Some("3")));
        assert_eq!(
            parse("azureml:auria-haiku@latest"),
            ("auria-haiku", Some("latest"))
        );
    }
}
