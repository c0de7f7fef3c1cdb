//! Gloo's headers, from Debian's package libgloo-dev: what the binding of PyTorch's
//! collectives is compiled against. Gloo itself is inside libtorch.
//!
//! Used by `libtorch`. Nothing is installed into the system, and no root is needed: the
//! package is fetched by apt-get, which verifies it, and unpacked. Where this machine's apt
//! knows no such package, a list of Debian's packages is fetched into a folder of our own.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::lock;
use crate::shell::{read, run, say};

const PACKAGE: &str = "libgloo-dev";

/// A header that says that all are there.
const HEADER: &str = "gloo/rendezvous/store.h";

/// Root would fetch as another user, who may not write here; and where there is no network,
/// the rest of the set-up is not to wait.
const QUICKLY: [&str; 7] = [
    "-qq",
    "-o",
    "APT::Sandbox::User=root",
    "-o",
    "Acquire::http::Timeout=15",
    "-o",
    "Acquire::Retries=1",
];

/// What Debian's packages are verified with.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Whether the headers are among those of this libtorch, or in the system.
pub(crate) fn is_there(libtorch: &Path) -> bool {
    [libtorch.join("include"), "/usr/include".into()]
        .iter()
        .any(|folder| folder.join(HEADER).is_file())
}

/// Puts the headers among those of libtorch.
pub(crate) fn install(libtorch: &Path) -> anyhow::Result<()> {
    say(format!(
        "fetching Debian's package {PACKAGE} (headers of Gloo, 50 kB) into {}",
        libtorch.display()
    ));
    let staging = tempfile::Builder::new()
        .prefix(lock::PARTIAL)
        .tempdir_in(libtorch)
        .with_context(|| format!("cannot make a folder in {}", libtorch.display()))?;
    if let Err(known) = download(staging.path(), None) {
        let config = own_lists(staging.path())
            .with_context(|| format!("apt-get gives no {PACKAGE} ({known:#})"))?;
        download(staging.path(), Some(&config))?;
    }
    let package = fs::read_dir(staging.path())?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|ending| ending == "deb"));
    let package = package.context("apt-get fetched no package")?;
    let unpacked = staging.path().join("unpacked");
    read(
        Command::new("dpkg-deb")
            .arg("-x")
            .arg(package)
            .arg(&unpacked),
    )?;
    let headers = unpacked.join("usr/include");
    ensure!(
        headers.join(HEADER).is_file(),
        "{PACKAGE} holds no {HEADER}"
    );
    let to = libtorch.join("include/gloo");
    fs::rename(headers.join("gloo"), &to)
        .with_context(|| format!("cannot move Gloo's headers to {}", to.display()))
}

/// Fetches the package into a folder, with the machine's configuration of apt or another.
fn download(into: &Path, config: Option<&Path>) -> anyhow::Result<()> {
    let mut apt = Command::new("apt-get");
    apt.args(QUICKLY)
        .args(["download", PACKAGE])
        .current_dir(into);
    if let Some(config) = config {
        apt.env("APT_CONFIG", config);
    }
    run(&mut apt)
}

/// A configuration of apt with lists of its own, fetched.
fn own_lists(folder: &Path) -> anyhow::Result<std::path::PathBuf> {
    let at = |name: &str| folder.join(name);
    for name in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(at(name))?;
    }
    fs::write(at("status"), "")?;
    // The machine's own archives; else Debian's, where its keys are known.
    let system = Path::new("/etc/apt");
    let has_sources = system.join("sources.list").is_file()
        || fs::read_dir(system.join("sources.list.d")).is_ok_and(|mut all| all.next().is_some());
    let sources = if has_sources {
        String::new()
    } else {
        let source = format!("deb [signed-by={KEYS}] http://deb.debian.org/debian bookworm main\n");
        fs::write(at("sources.list"), source)?;
        format!(
            "Dir::Etc::sourcelist \"{}/sources.list\";\nDir::Etc::sourceparts \"/dev/null\";\n",
            folder.display()
        )
    };
    let config = format!(
        "Dir::State \"{0}\";\nDir::State::status \"{0}/status\";\nDir::State::lists \"{0}/lists\";\n\
         Dir::Cache \"{0}/cache\";\nAcquire::Languages \"none\";\n\
         Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n{sources}",
        folder.display()
    );
    let path = at("apt.conf");
    fs::write(&path, config)?;
    run(Command::new("apt-get")
        .env("APT_CONFIG", &path)
        .args(QUICKLY)
        .arg("update"))?;
    Ok(path)
}
