//! What a plan has to know of the world beside the pipeline: local paths, objects,
//! registered assets, programs. Lists them, each once, with the place that names
//! them first.

use super::flatten::{compute_of, each_command, wanted};
use super::text::program;
use crate::check::{ImageSource, Location, Pipeline};
use crate::document::Place;
use crate::plan::DataType;
use std::collections::BTreeMap;

/// What has to be looked up before a pipeline can be planned.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// Local files and folders: each becomes a snapshot.
    pub paths: Vec<PathNeed>,
    /// Objects, to be pinned.
    pub uris: Vec<UriNeed>,
    /// Registered data and models.
    pub assets: Vec<AssetNeed>,
    /// Programs that commands start, for `process`.
    pub commands: Vec<CommandNeed>,
    /// What containers are made from, for `docker` and `kubernetes`.
    pub images: Vec<ImageNeed>,
    /// Steps that name no image.
    pub without_image: Vec<String>,
    /// Steps by the compute that they, or their pipeline for them, name.
    pub computes: BTreeMap<Option<String>, Vec<String>>,
}

/// What a container is made from.
#[derive(Clone, Debug)]
pub struct ImageNeed {
    /// An image, or what it is built from.
    pub source: ImageSource,
    /// Where it is named.
    pub place: Place,
}

/// A local file or folder.
#[derive(Clone, Debug)]
pub struct PathNeed {
    /// Its path, joined to the folder of the file that names it.
    pub path: String,
    /// What it is for.
    pub kind: PathKind,
    /// Where it is named.
    pub place: Place,
}

/// What a local path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    /// `code`.
    Code,
    /// An input, of this type where one is declared.
    Input(Option<DataType>),
}

/// Objects outside the run.
#[derive(Clone, Debug)]
pub struct UriNeed {
    /// Where they are.
    pub uri: String,
    /// Where that is said.
    pub place: Place,
}

/// A registered asset.
#[derive(Clone, Debug)]
pub struct AssetNeed {
    /// As the file writes it: `azureml:NAME:VERSION`.
    pub reference: String,
    /// Where it is named.
    pub place: Place,
}

/// A program.
#[derive(Clone, Debug)]
pub struct CommandNeed {
    /// The first word of a command: a name, or an absolute path.
    pub word: String,
    /// Where the command is written.
    pub place: Place,
}

/// What has to be looked up before `pipeline` can be planned.
#[must_use]
pub fn needs(pipeline: &Pipeline) -> Needs {
    let mut paths: BTreeMap<String, PathNeed> = BTreeMap::new();
    let mut uris: BTreeMap<String, Place> = BTreeMap::new();
    let mut assets: BTreeMap<String, Place> = BTreeMap::new();
    let mut commands: BTreeMap<String, Place> = BTreeMap::new();
    let mut images: BTreeMap<ImageSource, Place> = BTreeMap::new();
    let mut without_image = Vec::new();
    let mut computes: BTreeMap<Option<String>, Vec<String>> = BTreeMap::new();
    for (name, data) in wanted(pipeline) {
        let place = data.place;
        match data.location {
            Location::Local(path) => {
                let kind = PathKind::Input(data.data_type);
                paths.insert(name, PathNeed { path, kind, place });
            }
            Location::Asset(_) => drop(assets.insert(name, place)),
            Location::Uri(_) => drop(uris.insert(name, place)),
        }
    }
    each_command(&pipeline.graph, &mut |named, step| {
        computes
            .entry(compute_of(pipeline, step).cloned())
            .or_default()
            .push(named.name.clone());
        if let Some(code) = &step.body.code {
            let need = PathNeed {
                path: code.path.clone(),
                kind: PathKind::Code,
                place: code.place.clone(),
            };
            // The same folder as code and as an input is one snapshot all the same.
            paths.entry(code.path.clone()).or_insert(need);
        }
        if let (Some(word), Some(place)) = (program(&step.body.command), &step.body.place) {
            commands
                .entry(word.to_owned())
                .or_insert_with(|| place.clone());
        }
        let environment = step
            .environment
            .as_deref()
            .or(step.body.environment.as_deref());
        match environment.and_then(|spec| Some((spec.source()?, &spec.place))) {
            Some((source, place)) => drop(images.entry(source).or_insert_with(|| place.clone())),
            None => without_image.push(named.name.clone()),
        }
    });
    let asset = |(reference, place)| AssetNeed { reference, place };
    Needs {
        paths: paths.into_values().collect(),
        uris: uris
            .into_iter()
            .map(|(uri, place)| UriNeed { uri, place })
            .collect(),
        assets: assets.into_iter().map(asset).collect(),
        commands: commands
            .into_iter()
            .map(|(word, place)| CommandNeed { word, place })
            .collect(),
        images: images
            .into_iter()
            .map(|(source, place)| ImageNeed { source, place })
            .collect(),
        without_image,
        computes,
    }
}
