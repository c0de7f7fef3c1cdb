//! Where container engines listen on this machine, and the first of them that answers.
//! Reads no variables itself: the caller passes them.

use super::client::Client;
use super::{DockerError, here};
use std::path::PathBuf;

/// What says where an engine is.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// `DOCKER_HOST`: then no other place is tried.
    pub docker_host: Option<String>,
    /// `CONTAINER_HOST`, which is Podman's name for the same.
    pub container_host: Option<String>,
    /// `XDG_RUNTIME_DIR`, where rootless engines listen.
    pub runtime_folder: Option<PathBuf>,
    /// `HOME`, where Docker Desktop listens.
    pub home: Option<PathBuf>,
}

impl Places {
    /// The addresses to try, in order: what a variable says, or the usual sockets that
    /// are there.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        let said = [&self.docker_host, &self.container_host]
            .into_iter()
            .flatten()
            .find(|address| !address.is_empty());
        if let Some(address) = said {
            return vec![address.clone()];
        }
        let below = |folder: &Option<PathBuf>, names: &[&str]| -> Vec<PathBuf> {
            let joined = |folder: &PathBuf| names.iter().map(|name| folder.join(name)).collect();
            folder.as_ref().map(joined).unwrap_or_default()
        };
        let mut sockets = vec![PathBuf::from("/var/run/docker.sock")];
        sockets.extend(below(
            &self.runtime_folder,
            &["docker.sock", "podman/podman.sock"],
        ));
        sockets.push(PathBuf::from("/run/podman/podman.sock"));
        sockets.extend(below(
            &self.home,
            &[".docker/run/docker.sock", ".docker/desktop/docker.sock"],
        ));
        sockets
            .into_iter()
            .filter(|socket| socket.exists())
            .map(|socket| format!("unix://{}", socket.display()))
            .collect()
    }

    /// The first engine of this machine that answers.
    ///
    /// # Errors
    /// Why none does, for people, one line for each that was tried.
    pub async fn find(&self) -> Result<Client, NoEngine> {
        let mut tried = Vec::new();
        for address in self.addresses() {
            let known = address.starts_with("unix://")
                || address.starts_with("tcp://")
                || address.starts_with("http://");
            if !known {
                tried.push(format!(
                    "{address}: engines are reached at unix:// and tcp:// addresses of this machine"
                ));
                continue;
            }
            let client = Client::new(&address);
            match here(&client).await {
                Ok(_) => return Ok(client),
                Err(error @ (DockerError::Engine(_) | DockerError::Elsewhere { .. })) => {
                    tried.push(error.to_string());
                }
                Err(error @ DockerError::Runtime(_)) => tried.push(error.to_string()),
            }
        }
        Err(NoEngine { tried })
    }
}

/// No engine answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoEngine {
    /// What was tried and why it did not do.
    pub tried: Vec<String>,
}

impl std::error::Error for NoEngine {}

impl std::fmt::Display for NoEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.tried.is_empty() {
            return f.write_str("no container engine listens on this machine");
        }
        write!(f, "no container engine answers: {}", self.tried.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::Places;

    #[test]
    fn what_a_variable_says_is_the_only_place() {
        let places = Places {
            docker_host: Some("tcp://127.0.0.1:2375".to_owned()),
            container_host: Some("unix:///other".to_owned()),
            ..Places::default()
        };
        assert_eq!(places.addresses(), ["tcp://127.0.0.1:2375"]);
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("podman")).unwrap();
        std::fs::write(dir.path().join("podman/podman.sock"), "").unwrap();
        let places = Places {
            docker_host: Some(String::new()),
            runtime_folder: Some(dir.path().to_owned()),
            ..Places::default()
        };
        let socket = format!("unix://{}/podman/podman.sock", dir.path().display());
        assert!(places.addresses().contains(&socket));
    }
}
