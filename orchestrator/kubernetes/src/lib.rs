//! Tickets as Pods: what an attempt is called on a cluster. The executor that starts
//! Pods is not built yet. It never talks to a cluster.

use auria_core::{AttemptId, Digest};

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
    let hash = Digest::of(format!("{run}/{step}").as_bytes()).hex();
    let tail = format!("{}-{number}", &hash[..HASH_DIGITS]);
    let room = LONGEST.saturating_sub(tail.len() + 1);
    let slug = slug(step.as_str(), room);
    if slug.is_empty() {
        tail
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
    use super::{LONGEST, pod_name};
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
}
