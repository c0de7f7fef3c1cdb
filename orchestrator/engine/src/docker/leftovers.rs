//! Containers whose launcher is gone: found by name or by label, and removed. Never
//! touches one whose launcher lives.

use super::client::Client;
use auria_launcher::EngineOptions;
use auria_launcher::container::{Engine, LAUNCHER, name};
use auria_launcher::runtime::{AttemptFolder, RuntimeRoot};
use auria_launcher::tree::identity;

/// What names the runtime folder on every container of its attempts: the user and the
/// machine, as far as launchers go.
pub(super) const RUNTIME: &str = "auria-pipeline.runtime";

/// Removes the container of an attempt whose lock the caller holds; whether there is none
/// now. Blocks; needs a tokio runtime.
pub(crate) fn remove(engine: &EngineOptions, folder: &AttemptFolder) -> bool {
    let client = Client::new(&engine.address);
    let name = name(&folder.key());
    match tokio::runtime::Handle::current().block_on(client.remove(&name)) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!("the container {name} of a dead launcher is left for now: {error}");
            false
        }
    }
}

/// Removes every container that a launcher of `runtime` left which is gone.
pub(super) async fn sweep(client: &Client, runtime: &RuntimeRoot) {
    let label = format!("{RUNTIME}={}", runtime.path().display());
    let found = match client.containers_with(&label).await {
        Ok(found) => found,
        Err(error) => {
            tracing::debug!("containers without a launcher are not looked for: {error}");
            return;
        }
    };
    for (container, labels) in found {
        let Some(key) = container.strip_prefix("auria-") else {
            continue;
        };
        let folder = AttemptFolder::at(runtime.path().join("attempts").join(key));
        // The launcher of the attempt holds its lock while the container is there. Where
        // the folder vanished, only the label tells of it.
        let launcher = labels.get(LAUNCHER);
        let lives = launcher.is_some_and(|launcher| {
            let pid = launcher.split('-').next().and_then(|pid| pid.parse().ok());
            pid.and_then(identity).as_ref() == Some(launcher)
        });
        if lives || folder.is_held().unwrap_or(true) {
            continue;
        }
        if let Err(error) = client.remove(&container).await {
            tracing::warn!("the container {container} of a dead launcher is left: {error}");
        }
    }
}
