//! What the facts say of data, code and environments, and what they lack.

use super::flatten::Planner;
use super::text::program;
use super::{Asset, Target};
use crate::check::{CommandStep, DataRef, EnvironmentSpec, Location, Step};
use crate::diagnostic::{Code, Diagnostic};
use crate::document::Place;
use crate::plan::{DataType, Environment, InputMode, PlannedInput, ProcessEnvironment};

impl Planner<'_> {
    pub(super) fn data(&mut self, data: &DataRef) -> PlannedInput {
        let mode = data.mode.unwrap_or_default();
        if mode == InputMode::Direct
            && let Some(value) = self.direct(&data.location)
        {
            return PlannedInput::Literal { value };
        }
        let (Location::Local(name) | Location::Uri(name) | Location::Asset(name)) = &data.location;
        if !self.wanted.contains_key(name) {
            self.wanted.insert(name.clone(), data.clone());
        }
        let found = match &data.location {
            Location::Local(path) => self.facts.snapshots.get(path).map(|snapshot| {
                let by_content = if snapshot.is_file {
                    DataType::UriFile
                } else {
                    DataType::UriFolder
                };
                let data_type = data.data_type.unwrap_or(by_content);
                PlannedInput::Snapshot {
                    digest: snapshot.digest,
                    data_type,
                    mode,
                }
            }),
            Location::Uri(uri) => self.facts.pins.get(uri).map(|pin| PlannedInput::External {
                uri: uri.clone(),
                pin: pin.clone(),
                data_type: data.data_type.unwrap_or_default(),
                mode,
            }),
            Location::Asset(name) => self
                .facts
                .assets
                .get(name)
                .map(|asset| asset_input(asset, data, mode)),
        };
        found.unwrap_or_else(|| {
            let code = match &data.location {
                Location::Local(_) => Code::FileNotFound,
                Location::Uri(_) => Code::UnknownObject,
                Location::Asset(_) => Code::UnknownAsset,
            };
            self.missing(code, name, &data.place);
            PlannedInput::Absent
        })
    }

    /// What the command sees of data that it reaches by itself: an absolute path, or
    /// the URI. Nothing is looked up for it. An asset has to be found first.
    fn direct(&self, location: &Location) -> Option<String> {
        match location {
            Location::Local(path) if path.starts_with('/') => Some(path.clone()),
            Location::Local(path) => Some(format!(
                "{}/{path}",
                self.facts.folder.trim_end_matches('/')
            )),
            Location::Uri(uri) => Some(uri.clone()),
            Location::Asset(_) => None,
        }
    }

    /// That something the pipeline names was not found, once for each.
    fn missing(&mut self, code: Code, text: &str, place: &Place) {
        if self.reported.insert(text.to_owned()) {
            let help = match code {
                Code::UnknownAsset => "`auria-pipeline model list` lists what is registered",
                Code::UnknownEnvironment => "name an image instead: `environment: {image: …}`",
                Code::UnknownObject => {
                    "look at the address: nothing is there, or it may not be read"
                }
                _ => "paths are relative to the folder of the file that names them",
            };
            let message = format!("`{text}` was not found");
            self.errors
                .push(Diagnostic::error(code, message, place).help(help));
        }
    }

    pub(super) fn code(&mut self, command: &CommandStep) -> Option<crate::digest::Digest> {
        let code = command.body.code.as_ref()?;
        let found = self
            .facts
            .snapshots
            .get(&code.path)
            .map(|snapshot| snapshot.digest);
        if found.is_none() {
            self.missing(Code::FileNotFound, &code.path, &code.place);
        }
        found
    }

    pub(super) fn environment(
        &mut self,
        spec: Option<&EnvironmentSpec>,
        command: &CommandStep,
        step: &Step,
    ) -> Environment {
        let named = spec.and_then(|spec| spec.image.clone().or_else(|| spec.asset.clone()));
        match &self.facts.target {
            Target::Process {
                os,
                arch,
                host,
                executables,
            } => Environment::Process(ProcessEnvironment {
                os: os.clone(),
                arch: arch.clone(),
                host: host.clone(),
                executable: program(&command.body.command)
                    .and_then(|word| executables.get(word).cloned()),
                image: named,
            }),
            Target::Image { images } => {
                let image = named.clone().and_then(|name| match images.get(&name) {
                    Some(pinned) => Some(pinned.clone()),
                    None if name.starts_with("azureml:") => None,
                    None => Some(name),
                });
                self.image_errors(spec, image.is_some(), step);
                Environment::Image {
                    image: image.or(named).unwrap_or_default(),
                    cuda: spec.and_then(|spec| spec.cuda.clone()),
                }
            }
        }
    }

    fn image_errors(&mut self, spec: Option<&EnvironmentSpec>, found: bool, step: &Step) {
        let place = spec.map_or(&step.place, |spec| &spec.place);
        if let Some(key) = spec.and_then(|spec| spec.to_build) {
            let message = format!("building an image from `{key}` is not built yet");
            let found = Diagnostic::error(Code::NotYet, message, place);
            self.errors
                .push(found.help("instead: build the image, and name it with `image:`"));
        } else if let Some(asset) = spec.and_then(|spec| spec.asset.as_ref()).filter(|_| !found) {
            self.missing(Code::UnknownEnvironment, asset, place);
        } else if !found {
            let message = format!("the step `{}` names no image to run in", step.name);
            let found = Diagnostic::error(Code::MissingImage, message, place);
            self.errors
                .push(found.help("write `environment: {image: …}`, or run with `--on process`"));
        }
    }
}

fn asset_input(asset: &Asset, data: &DataRef, mode: InputMode) -> PlannedInput {
    match asset {
        Asset::Snapshot { digest, data_type } => PlannedInput::Snapshot {
            digest: *digest,
            data_type: data.data_type.unwrap_or(*data_type),
            mode,
        },
        Asset::External {
            uri,
            pin,
            data_type,
        } => PlannedInput::External {
            uri: uri.clone(),
            pin: pin.clone(),
            data_type: data.data_type.unwrap_or(*data_type),
            mode,
        },
    }
}
