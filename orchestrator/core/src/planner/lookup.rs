//! What the facts say of data, code and environments, and what they lack.

use super::flatten::Planner;
use super::text::program;
use super::{Asset, Target};
use crate::check::{CommandStep, DataRef, EnvironmentSpec, ImageSource, Location, Step};
use crate::diagnostic::{Code, Diagnostic};
use crate::document::Place;
use crate::plan::{DataType, Environment, InputMode, PlannedInput, ProcessEnvironment};

impl Planner<'_> {
    pub(super) fn data(&mut self, data: &DataRef) -> PlannedInput {
        let mode = data.mode.unwrap_or_default();
        if mode == InputMode::Direct
            && let Some(value) = self.direct(&data.location)
        {
            // A container sees a path of this machine only where it is told of it.
            if let (Target::Image { .. }, Location::Local(_)) = (&self.facts.target, &data.location)
            {
                return PlannedInput::External {
                    uri: value,
                    pin: String::new(),
                    data_type: data.data_type.unwrap_or_default(),
                    mode,
                };
            }
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
                Code::MissingImage => "name an image that the engine has, or can pull or build",
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
                let image = spec
                    .and_then(EnvironmentSpec::source)
                    .and_then(|source| images.get(&source).cloned());
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
        if found {
            return;
        }
        let source = spec.and_then(EnvironmentSpec::source);
        if let Some(source) = source {
            let code = match &source {
                ImageSource::Named(name) if name.starts_with("azureml:") => {
                    Code::UnknownEnvironment
                }
                _ => Code::MissingImage,
            };
            self.missing(code, &source.to_string(), place);
        } else if spec.is_some_and(|spec| spec.conda.is_some()) {
            let message = "`conda_file` adds packages to an image, and no `image` is named";
            let found = Diagnostic::error(Code::MissingImage, message, place);
            self.errors.push(found.help(
                "name one that carries micromamba, mamba or conda, such as `image: mambaorg/micromamba:2`",
            ));
        } else {
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
