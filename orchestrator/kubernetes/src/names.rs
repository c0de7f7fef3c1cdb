//! What attempts and runs are called on a cluster: names, labels, annotations. It never
//! talks to one.

use auria_core::{AttemptId, Digest, RunId};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The group of the custom resources, and the prefix of our labels.
pub const GROUP: &str = "pipelines.auria.dev";

/// `app.kubernetes.io/name` of every Pod of an attempt.
pub const APP: &str = "auria-step";
/// Who manages them.
pub const MANAGER: &str = "auria-pipeline";

/// Label and annotation: the run.
pub const RUN: &str = "pipelines.auria.dev/run";
/// Label and annotation: the step.
pub const STEP: &str = "pipelines.auria.dev/step";
/// Label and annotation: the attempt's number.
pub const ATTEMPT: &str = "pipelines.auria.dev/attempt";
/// Label and annotation: the pipeline.
pub const PIPELINE: &str = "pipelines.auria.dev/pipeline";
/// Annotation: the experiment.
pub const EXPERIMENT: &str = "pipelines.auria.dev/experiment";
/// Label: `none` where the step may reach nothing; a NetworkPolicy selects it.
pub const NETWORK: &str = "pipelines.auria.dev/network";
/// Annotation: the time that a stop leaves for publishing, in milliseconds.
pub const PUBLISH_GRACE: &str = "pipelines.auria.dev/publish-grace-ms";
/// Annotation: how long a Pod may stay unschedulable, in milliseconds.
pub const PENDING_TIMEOUT: &str = "pipelines.auria.dev/pending-timeout-ms";
/// Annotation: how long its image may be trouble, in milliseconds.
pub const IMAGE_PATIENCE: &str = "pipelines.auria.dev/image-patience-ms";
/// Annotation: how long a node may take to start it, in milliseconds.
pub const START_TIMEOUT: &str = "pipelines.auria.dev/start-timeout-ms";
/// Label and annotation of a distributed step: which of its instances a Pod is, from 0. The
/// first one's launcher holds the claim.
pub const INSTANCE: &str = "pipelines.auria.dev/instance";
/// Annotation of a distributed step: how many instances it has.
pub const INSTANCES: &str = "pipelines.auria.dev/instances";
/// Annotation: the compute that its attempt runs on, where it is declared.
pub const COMPUTE: &str = "pipelines.auria.dev/compute";
/// Annotation of the Lease: where the replica that holds it hears the others.
pub const ADDRESS: &str = "pipelines.auria.dev/address";

/// The longest name that a label of a Pod and its hostname may have (RFC 1123).
const LONGEST: usize = 63;
/// Digits of the hash: 48 bits, so that two steps of a namespace never meet by chance.
const HASH_DIGITS: usize = 12;

/// The name of the Pod of an attempt: a slug of the step that people can read, a hash
/// of run and step that tells it from all others, and the attempt's number.
///
/// At most 63 characters, lower-case letters, digits and `-`, a letter or digit at both
/// ends (a DNS-1123 label). The same attempt always has the same name, so that starting
/// it twice makes one Pod.
#[must_use]
pub fn pod_name(attempt: &AttemptId) -> String {
    let AttemptId { run, step, number } = attempt;
    // No name holds a `/`, so that the pair is told apart from every other.
    let hash = hash(&format!("{run}/{step}"));
    joined(step.as_str(), &format!("{hash}-{number}"))
}

/// The name of the Pod of one instance of a distributed step's attempt; the first has the
/// attempt's own.
#[must_use]
pub fn instance_pod_name(attempt: &AttemptId, instance: u32) -> String {
    let AttemptId { run, step, number } = attempt;
    if instance == 0 {
        return pod_name(attempt);
    }
    let hash = hash(&format!("{run}/{step}"));
    joined(step.as_str(), &format!("{hash}-{number}-{instance}"))
}

/// The name of the custom resource of a run: its own name, where a cluster takes that.
#[must_use]
pub fn resource_name(run: &RunId) -> String {
    served_name(run.as_str())
}

/// The name of the custom resource of a schedule or an endpoint.
#[must_use]
pub fn served_name(name: &str) -> String {
    if slug(name, LONGEST) == name {
        name.to_owned()
    } else {
        joined(name, &hash(name))
    }
}

/// `text` as the value of a label: itself where it is one, else a slug and a hash of it.
#[must_use]
pub fn label_value(text: &str) -> String {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let is_value = bytes.len() <= LONGEST
        && bytes.iter().all(|b| inner(*b))
        && ends(bytes.first())
        && ends(bytes.last());
    if is_value {
        text.to_owned()
    } else {
        joined(text, &hash(text))
    }
}

/// The selector of all Pods of attempts.
#[must_use]
pub fn selector() -> String {
    format!("app.kubernetes.io/name={APP},app.kubernetes.io/managed-by={MANAGER}")
}

/// The selector of the Pods of one run.
#[must_use]
pub fn run_selector(run: &RunId) -> String {
    format!("{},{RUN}={}", selector(), label_value(run.as_str()))
}

/// The attempt that an object's annotations name; none where they name none.
#[must_use]
pub fn attempt_of(metadata: &ObjectMeta) -> Option<AttemptId> {
    let annotations = metadata.annotations.as_ref()?;
    Some(AttemptId {
        run: annotations.get(RUN)?.parse().ok()?,
        step: annotations.get(STEP)?.parse().ok()?,
        number: annotations.get(ATTEMPT)?.parse().ok()?,
    })
}

/// Which instance of its attempt a Pod is.
#[must_use]
pub fn instance_of(metadata: &ObjectMeta) -> u32 {
    number(metadata, INSTANCE).unwrap_or(0)
}

/// How many instances its attempt has.
#[must_use]
pub fn instances_of(metadata: &ObjectMeta) -> u32 {
    number(metadata, INSTANCES).unwrap_or(1)
}

fn number(metadata: &ObjectMeta, name: &str) -> Option<u32> {
    metadata.annotations.as_ref()?.get(name)?.parse().ok()
}

/// The selector of the Pods of one attempt.
#[must_use]
pub fn attempt_selector(attempt: &AttemptId) -> String {
    format!(
        "{},{STEP}={},{ATTEMPT}={}",
        run_selector(&attempt.run),
        label_value(attempt.step.as_str()),
        attempt.number
    )
}

fn hash(text: &str) -> String {
    Digest::of(text.as_bytes()).hex()[..HASH_DIGITS].to_owned()
}

/// A slug of `text` before `tail`, within the longest name.
fn joined(text: &str, tail: &str) -> String {
    let slug = slug(text, LONGEST.saturating_sub(tail.len() + 1));
    if slug.is_empty() {
        tail.to_owned()
    } else {
        format!("{slug}-{tail}")
    }
}

/// At most `room` characters of `text` as a part of a DNS-1123 label; may be empty.
fn slug(text: &str, room: usize) -> String {
    let mapped: String = text
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .take(room)
        .collect();
    mapped.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, label_value, pod_name, resource_name};
    use auria_core::AttemptId;

    fn name(run: &str, step: &str, number: u32) -> String {
        let (run, step) = (run.parse().unwrap(), step.parse().unwrap());
        pod_name(&AttemptId { run, step, number })
    }

    fn is_label(name: &str) -> bool {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        name.len() <= LONGEST
            && name.bytes().all(inner)
            && !name.starts_with('-')
            && !name.ends_with('-')
            && !name.is_empty()
    }

    #[test]
    fn every_name_is_a_label() {
        let long = format!("{}.{}", "a_very_long_name_of_a_step".repeat(4), "inner");
        for step in ["write", "outer.inner", "loop.3.inner", "_x", "__", &long] {
            for number in [1, 12, u32::MAX] {
                let name = name("auria-kathi-20260102t030405678abcd", step, number);
                assert!(is_label(&name), "{step} {number}: {name}");
            }
        }
    }

    #[test]
    fn other_attempts_have_other_names() {
        let names = [
            name("r", "write", 1),
            name("r", "write", 2),
            name("s", "write", 1),
            name("r", "paint", 1),
            // The same slug, and the same text but for the border of run and step.
            name("r", "a.b", 1),
            name("r", "a_b", 1),
            name("ra", "b", 1),
            name("r", "ab", 1),
        ];
        let different: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len(), "{names:?}");
        assert_eq!(names[0], name("r", "write", 1));
        assert!(
            names[0].starts_with("write-") && names[0].ends_with("-1"),
            "{}",
            names[0]
        );
    }

    #[test]
    fn each_instance_has_a_name_of_its_own() {
        let attempt = |number| AttemptId {
            run: "r".parse().unwrap(),
            step: "train".parse().unwrap(),
            number,
        };
        let names: std::collections::BTreeSet<String> = [(1, 0), (1, 1), (11, 0), (11, 1), (1, 11)]
            .into_iter()
            .map(|(number, instance)| super::instance_pod_name(&attempt(number), instance))
            .collect();
        assert_eq!(names.len(), 5, "{names:?}");
        assert!(names.iter().all(|name| is_label(name)));
        assert!(names.contains(&pod_name(&attempt(1))));
    }

    #[test]
    fn what_fits_is_kept_and_what_does_not_is_told_apart() {
        assert_eq!(label_value("loop.3.inner"), "loop.3.inner");
        let (long, other) = ("x".repeat(80), "x".repeat(81));
        assert_ne!(label_value(&long), label_value(&other));
        for text in ["_x", "a-", "größe", "", &long] {
            let value = label_value(text);
            assert!(is_label(&value) && value != text, "{text}: {value}");
        }
        assert_eq!(resource_name(&"hello-1".parse().unwrap()), "hello-1");
        let (one, two) = ("a_b".parse().unwrap(), "a-b".parse().unwrap());
        assert!(is_label(&resource_name(&one)));
        assert_ne!(resource_name(&one), resource_name(&two));
    }
}
