//! `cargo xtask images`: the project's images, built by the engine of this machine from
//! `dockerfiles/`.
//!
//! Each image is built from a folder of its own under `target/images`, with the programs that cargo
//! built beside the Dockerfile, so that no compiler runs in a container. It pushes nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};

use crate::shell::{binary, cargo, human, installs, root, run, say, timed};
use crate::{launcher, libtorch};

/// Where nothing else is said, images are called this and a name: no registry's host, so that
/// nobody pulls them by accident.
const PREFIX: &str = "auria.local/";

#[derive(Args)]
pub(crate) struct Images {
    /// Only these images
    #[arg(value_name = "NAME")]
    names: Vec<Image>,
    /// The base of all images, instead of the one that each Dockerfile names; best with its digest
    #[arg(long, value_name = "IMAGE")]
    base: Option<String>,
    /// The folder with libtorch's libraries for one of the steps, instead of the CPU's
    #[arg(long, value_name = "DIR")]
    libtorch: Option<PathBuf>,
    /// What the names of images begin with
    #[arg(long, value_name = "TEXT", default_value = PREFIX)]
    prefix: String,
    /// The images' tag
    #[arg(long, value_name = "TAG", default_value = env!("CARGO_PKG_VERSION"))]
    tag: String,
    /// The engine's program
    #[arg(long, value_name = "PROGRAM", default_value = "docker")]
    engine: String,
    /// Also write all of them into this archive, as `docker save` does
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Take the programs as the last `cargo build` left them; the launcher is built anyway, with
    /// flags of its own
    #[arg(long)]
    no_build: bool,
    /// Only make the folders under target/images, and build nothing from them
    #[arg(long)]
    contexts: bool,
}

/// An image of the project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Image {
    /// The step that writes
    Haiku,
    /// The step that paints
    Paint,
    /// The step that colours
    Style,
    /// The step that posts
    Post,
    /// The launcher alone
    Launcher,
    /// The controller
    Orchestrator,
}

impl Image {
    fn name(self) -> &'static str {
        match self {
            Self::Haiku => "haiku",
            Self::Paint => "paint",
            Self::Style => "style",
            Self::Post => "post",
            Self::Launcher => "launcher",
            Self::Orchestrator => "orchestrator",
        }
    }

    /// The program that cargo builds for it.
    fn program(self) -> Option<&'static str> {
        match self {
            Self::Haiku => Some("auria-haiku"),
            Self::Paint => Some("auria-paint"),
            Self::Style => Some("auria-style"),
            Self::Post => Some("auria-post"),
            Self::Launcher => None,
            Self::Orchestrator => Some("auria-pipeline"),
        }
    }

    fn has_launcher(self) -> bool {
        self != Self::Orchestrator
    }

    fn has_libtorch(self) -> bool {
        matches!(self, Self::Haiku | Self::Paint | Self::Style)
    }

    fn has_base(self) -> bool {
        self != Self::Launcher
    }
}

impl Images {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let images: Vec<Image> = if self.names.is_empty() {
            Image::value_variants().to_vec()
        } else {
            self.names.clone()
        };
        if self.libtorch.is_some() {
            one_pin(&images)?;
        }
        let folders = self.contexts(&images)?;
        if self.contexts {
            for folder in folders {
                println!("{}", folder.display());
            }
            return Ok(());
        }
        let mut names = Vec::new();
        for (image, folder) in images.iter().zip(&folders) {
            let name = format!("{}{}:{}", self.prefix, image.name(), self.tag);
            let mut build = Command::new(&self.engine);
            build.args(["build", "--quiet", "--tag", &name]);
            if image.has_libtorch() && self.libtorch.is_none() {
                // What its label says is what is in it.
                build.args(["--build-arg", "LIBTORCH=cpu"]);
            }
            if let Some(base) = self.base.as_ref().filter(|_| image.has_base()) {
                build.arg("--build-arg").arg(format!("BASE={base}"));
            }
            // The builder that every engine has.
            build.arg(folder).env("DOCKER_BUILDKIT", "0");
            let (done, took) = timed(|| run(&mut build));
            done.with_context(|| {
                format!(
                    "cannot build {name}: is an engine running, and can it get the base? \
                     `--base IMAGE` names another"
                )
            })?;
            say(format!("built {name} ({})", human(took)));
            names.push(name);
        }
        if let Some(file) = &self.save {
            let mut save = Command::new(&self.engine);
            save.arg("save").arg("--output").arg(file).args(&names);
            let (done, took) = timed(|| run(&mut save));
            done?;
            say(format!("wrote {} ({})", file.display(), human(took)));
        }
        for name in names {
            println!("{name}");
        }
        Ok(())
    }

    /// Makes the folder of each image anew.
    fn contexts(&self, images: &[Image]) -> anyhow::Result<Vec<PathBuf>> {
        let libraries = match &self.libtorch {
            Some(folder) => folder.clone(),
            None => libtorch::install(None)?.join("lib"),
        };
        if !self.no_build && images.iter().any(|image| image.program().is_some()) {
            // All programs at once: cargo builds dependencies anew for other sets of packages.
            run(cargo().args(["build", "--locked", "--workspace", "--bins"]))?;
        }
        let launcher = if images.iter().any(|image| image.has_launcher()) {
            Some(launcher::build()?)
        } else {
            None
        };
        let all = installs().join("images");
        let mut folders = Vec::new();
        for image in images {
            let folder = all.join(image.name());
            if folder.exists() {
                fs::remove_dir_all(&folder)
                    .with_context(|| format!("cannot remove {}", folder.display()))?;
            }
            let dockerfile = format!("dockerfiles/{}.Dockerfile", image.name());
            copy(&root().join(dockerfile), &folder.join("Dockerfile"))?;
            if let Some(program) = image.program() {
                copy(&binary(program), &folder.join("bin").join(program))?;
            }
            if let Some(launcher) = launcher.as_ref().filter(|_| image.has_launcher()) {
                copy(launcher, &folder.join("launcher/auria-launcher"))?;
            }
            if image.has_libtorch() {
                copy_libraries(&libraries, &folder.join("libtorch"))?;
            }
            folders.push(folder);
        }
        Ok(folders)
    }
}

/// Each of the artist's images is made for a CUDA version of its own, and a folder of libtorch
/// is of one.
fn one_pin(images: &[Image]) -> anyhow::Result<()> {
    let with: Vec<&str> = images
        .iter()
        .filter(|image| image.has_libtorch())
        .map(|image| image.name())
        .collect();
    ensure!(
        with.len() <= 1,
        "--libtorch is of one CUDA version, and {} have one each (docs/cuda.md): name one of them, \
         and call again for the next",
        with.join(", ")
    );
    Ok(())
}

/// The shared libraries of `from`; not libtorch's script for linkers, which no program loads.
fn copy_libraries(from: &Path, to: &Path) -> anyhow::Result<()> {
    let entries = fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?;
    let mut copied = 0_usize;
    for entry in entries {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if name.contains(".so") && is_library(&path)? {
            copy(&path, &to.join(name))?;
            copied += 1;
        }
    }
    ensure!(copied > 0, "{} holds no shared library", from.display());
    Ok(())
}

fn is_library(path: &Path) -> anyhow::Result<bool> {
    use std::io::Read;
    let mut head = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(4).read_to_end(&mut head))
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(head == b"\x7fELF")
}

/// A copy that shares the file's content where it can.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let Some(folder) = to.parent() else {
        bail!("{} has no folder", to.display());
    };
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Image, one_pin};
    use clap::ValueEnum;

    #[test]
    fn a_libtorch_is_of_one_pin() {
        assert!(one_pin(&[Image::Paint, Image::Post, Image::Launcher]).is_ok());
        let all = one_pin(Image::value_variants()).unwrap_err().to_string();
        assert!(all.contains("haiku, paint, style"), "{all}");
    }
}
