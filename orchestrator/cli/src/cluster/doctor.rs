//! What `doctor` says of a cluster: whether it answers, whether its controller does, and
//! what that one brings. It tries the way that every command goes.

use super::{client, controller, namespace};
use crate::args::Global;
use crate::commands::doctor::{Finding, Verdict};
use crate::config::Config;
use crate::edge;
use crate::failure::Failure;
use auria_core::protocol::{LauncherFacts, ServerFacts};
use auria_store::{Store, runs};
use std::time::Duration;

/// How long a cluster may take to say what it is.
const PATIENCE: Duration = Duration::from_secs(10);

/// The findings, of which the first that is bad ends the list.
pub async fn findings(global: &Global, config: &Config) -> Vec<Finding> {
    let mut found = vec![match api(global, config).await {
        Ok(detail) => good("cluster", detail),
        Err(failure) => return vec![bad("cluster", &failure)],
    }];
    let controller = match controller(global, config).await {
        Ok(controller) => controller,
        Err(failure) => {
            found.push(bad("controller", &failure));
            return found;
        }
    };
    let facts = &controller.facts;
    found.push(good(
        "controller",
        format!(
            "{}, version {}, knows you as {}",
            controller.name, facts.version, facts.user
        ),
    ));
    found.push(match looked(&controller.store, facts).await {
        Ok(detail) => good("store", detail),
        Err(failure) => bad("store", &failure),
    });
    found.push(computes(facts, &namespace(global, config)));
    found.extend(facts.launcher.as_ref().map(launcher));
    found
}

fn good(what: &'static str, detail: String) -> Finding {
    Finding {
        what,
        verdict: Verdict::Good,
        detail,
        help: None,
    }
}

fn bad(what: &'static str, failure: &Failure) -> Finding {
    Finding {
        what,
        verdict: Verdict::Bad,
        detail: failure.message().to_owned(),
        help: failure.way_out().map(str::to_owned),
    }
}

async fn api(global: &Global, config: &Config) -> Result<String, Failure> {
    let client = client(global, config).await?;
    let help = "`kubectl cluster-info` says whether the cluster answers; `--context` picks another";
    let version = tokio::time::timeout(PATIENCE, client.apiserver_version()).await;
    let version = match version {
        Ok(Ok(version)) => version,
        Ok(Err(error)) => {
            return Err(Failure::unreachable(super::leader::said(&error)).help(help));
        }
        Err(_elapsed) => {
            return Err(Failure::unreachable("the cluster does not answer").help(help));
        }
    };
    Ok(format!("Kubernetes {}", version.git_version))
}

async fn looked(store: &Store, facts: &ServerFacts) -> Result<String, Failure> {
    let begun = edge::now();
    runs::list_recent(store, 1).await?;
    let way = if facts.store.signs {
        "files go straight there by signed URLs"
    } else {
        "files go through the controller"
    };
    Ok(format!(
        "{}: {way}; read in {} ms",
        store.url(),
        edge::now().millis_since(begun)
    ))
}

fn computes(facts: &ServerFacts, namespace: &str) -> Finding {
    if facts.computes.is_empty() {
        return Finding {
            what: "computes",
            verdict: Verdict::Missing,
            detail: "none: every step runs wherever its pins and its resources fit".to_owned(),
            help: Some(format!(
                "`computes:` in the ConfigMap {namespace}/auria-config declares some"
            )),
        };
    }
    good("computes", facts.computes.join(", "))
}

fn launcher(facts: &LauncherFacts) -> Finding {
    let LauncherFacts {
        image,
        carried_by,
        image_volumes,
    } = facts;
    let carried = match carried_by.as_slice() {
        [] => "no image is known to carry it".to_owned(),
        starts => format!("in images that begin with {}", starts.join(", ")),
    };
    let brought = match (image, image_volumes) {
        (Some(image), true) => format!("else by a volume of {image}"),
        (Some(image), false) => format!("else copied by an init container of {image}"),
        (None, _) => {
            return Finding {
                what: "launcher",
                verdict: Verdict::Missing,
                detail: format!("{carried}; steps with other images are refused"),
                help: Some(
                    "`launcher-image` in the ConfigMap auria-config brings it into any image"
                        .to_owned(),
                ),
            };
        }
    };
    good("launcher", format!("{carried}; {brought}"))
}
