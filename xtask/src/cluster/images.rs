//! Images without a registry: archives in `target/cluster/images`, which each node imports when
//! it starts, and those that run at once.
//!
//! Used by `up`, `load` and, in a node, by `init`. An archive stays until another brings an image
//! of the same name, so that a node with a new disk has all images again.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::config::SOCKET;
use super::layout::{BUSYBOX, Node, PAUSE, bin, images};
use crate::shell::{human, read, say, timed};

/// A manifest is small; more is no image.
const MAX_MANIFEST: u64 = 1 << 20;

/// containerd's own client, in the namespace that kubelets use.
pub(crate) fn ctr() -> Command {
    let mut command = Command::new("ctr");
    command.args(["--address", SOCKET, "--namespace", "k8s.io"]);
    command
}

/// Makes the images that the cluster itself needs, where they are missing or stale.
pub(crate) fn make_own() -> anyhow::Result<()> {
    fs::create_dir_all(images())?;
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.is_file())
        .context("there is no busybox")?;
    write_image(PAUSE, &[(bin("pause"), "pause")], &["/pause"])?;
    let applets = [
        "sh", "sleep", "cat", "id", "ls", "kill", "echo", "httpd", "env",
    ];
    let mut files = vec![(busybox.clone(), "bin/busybox")];
    let names: Vec<String> = applets.iter().map(|name| format!("bin/{name}")).collect();
    files.extend(names.iter().map(|name| (busybox.clone(), name.as_str())));
    write_image(BUSYBOX, &files, &["/bin/sh"])
}

/// Writes an image with these files as Docker's archives are, unless it is there.
fn write_image(name: &str, files: &[(PathBuf, &str)], command: &[&str]) -> anyhow::Result<()> {
    let mut layer = tar::Builder::new(Vec::new());
    let mut first: Option<(&Path, &str)> = None;
    for (from, to) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        if let Some((before, target)) = first
            && before == from
        {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            layer.append_link(&mut header, to, Path::new("/").join(target))?;
            continue;
        }
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        header.set_size(content.len() as u64);
        layer.append_data(&mut header, to, content.as_slice())?;
        first = Some((from, to));
    }
    let layer = layer.into_inner()?;
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": command, "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))]},
    })
    .to_string();
    let config_name = format!("{}.json", digest(config.as_bytes()));
    let manifest = json!([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]);
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in [
        (config_name.as_str(), config.as_bytes()),
        ("layer.tar", &layer),
        ("manifest.json", manifest.to_string().as_bytes()),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, path, content)?;
    }
    keep(&[name.to_owned()], &archive.into_inner()?)?;
    Ok(())
}

/// Puts an archive where nodes find it; whether it was not there yet.
fn keep(names: &[String], archive: &[u8]) -> anyhow::Result<Option<PathBuf>> {
    let path = images().join(format!(
        "{}@{}.tar",
        names
            .first()
            .map_or_else(String::new, |name| file_name(name)),
        &digest(archive)[..16]
    ));
    if path.exists() {
        return Ok(None);
    }
    fs::create_dir_all(images())?;
    for old in archives()? {
        let is_same = old
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.rsplit_once('@'))
            .is_some_and(|(name, _)| names.first().is_some_and(|first| file_name(first) == name));
        if is_same {
            fs::remove_file(old)?;
        }
    }
    let partial = path.with_extension("partial");
    fs::write(&partial, archive).with_context(|| format!("cannot write {}", partial.display()))?;
    fs::rename(&partial, &path)?;
    Ok(Some(path))
}

fn file_name(image: &str) -> String {
    image.replace(['/', ':', '@'], "_")
}

/// All archives that nodes import.
fn archives() -> anyhow::Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = fs::read_dir(images())
        .with_context(|| format!("cannot read {}", images().display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    found.retain(|path| path.extension().is_some_and(|ending| ending == "tar"));
    found.sort();
    Ok(found)
}

/// In a node: imports the archives that its disk does not hold.
pub(crate) fn import_all(node: Node) -> anyhow::Result<()> {
    for archive in archives()? {
        let marker = marker(node, &archive)?;
        if !marker.exists() {
            read(&mut import(&archive, ctr()))?;
            fs::write(marker, "")?;
        }
    }
    Ok(())
}

/// What says on a node's disk that the archive was imported.
fn marker(node: Node, archive: &Path) -> anyhow::Result<PathBuf> {
    let name = archive.file_name().context("an archive has a name")?;
    Ok(node.folder().join("imported").join(name))
}

fn import(archive: &Path, mut ctr: Command) -> Command {
    ctr.args(["images", "import", "--all-platforms"])
        .arg(archive);
    ctr
}

/// Gives these archives to all nodes, at once to those that run.
pub(crate) fn load(paths: &[PathBuf]) -> anyhow::Result<()> {
    for path in paths {
        let names = names(path)?;
        let content = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let Some(archive) = keep(&names, &content)? else {
            say(format!("{} is loaded already", names.join(", ")));
            continue;
        };
        let (done, took) = timed(|| {
            Node::all()
                .into_iter()
                .filter(|node| node.init().is_some())
                .try_for_each(|node| {
                    let mut inside = node.inside("ctr")?;
                    inside.args(["--address", SOCKET, "--namespace", "k8s.io"]);
                    read(&mut import(&archive, inside))?;
                    fs::write(marker(node, &archive)?, "")?;
                    anyhow::Ok(())
                })
        });
        done.with_context(|| format!("cannot import {}", path.display()))?;
        say(format!("loaded {} in {}", names.join(", "), human(took)));
    }
    Ok(())
}

/// The names of the images in an archive: Docker's, or that of OCI.
fn names(path: &Path) -> anyhow::Result<Vec<String>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut archive = tar::Archive::new(std::io::BufReader::new(file));
    let mut found = Vec::new();
    // What the crate says of it may quote the file.
    let is_none = |_| anyhow::anyhow!("{} is no tar archive", path.display());
    for entry in archive.entries().map_err(is_none)? {
        let entry = entry.map_err(is_none)?;
        let name = entry.path()?.to_string_lossy().into_owned();
        if name != "manifest.json" && name != "index.json" {
            continue;
        }
        let mut text = String::new();
        entry.take(MAX_MANIFEST).read_to_string(&mut text)?;
        let value: Value = serde_json::from_str(&text)
            .with_context(|| format!("{name} of {} is no JSON", path.display()))?;
        found.extend(names_in(&value));
    }
    found.sort();
    found.dedup();
    ensure!(
        !found.is_empty(),
        "{} names no image: save it by its name (`docker save NAME:TAG`)",
        path.display()
    );
    if let Some(short) = found.iter().find(|name| !name.contains('/')) {
        bail!(
            "{} names `{short}`: a node looks for images by full names, such as test.local/{short}",
            path.display()
        );
    }
    Ok(found)
}

fn names_in(value: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let docker = value.as_array().into_iter().flatten();
    let docker = docker.flat_map(|image| image["RepoTags"].as_array().into_iter().flatten());
    let oci = value["manifests"].as_array().into_iter().flatten();
    let oci = oci.filter_map(|manifest| {
        let notes = &manifest["annotations"];
        text(&notes["io.containerd.image.name"])
            .or_else(|| text(&notes["org.opencontainers.image.ref.name"]))
    });
    docker.filter_map(text).chain(oci).collect()
}

fn digest(content: &[u8]) -> String {
    Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::names_in;
    use serde_json::json;

    #[test]
    fn archives_of_both_kinds_name_their_images() {
        let docker = json!([{"Config": "c", "RepoTags": ["a/b:1", "a/c:1"], "Layers": []}]);
        assert_eq!(names_in(&docker), ["a/b:1", "a/c:1"]);
        let oci = json!({"manifests": [{"annotations": {
            "io.containerd.image.name": "docker.io/a/b:1",
            "org.opencontainers.image.ref.name": "1"}}]});
        assert_eq!(names_in(&oci), ["docker.io/a/b:1"]);
    }
}
