//! "Did you mean": the nearest known name to one that is not known.

/// The name in `known` that `name` is most likely a slip of, if any is near.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let allowed = (name.chars().count() / 3).clamp(1, 3);
    let known: Vec<&str> = known.into_iter().collect();
    let near = known
        .iter()
        .copied()
        .map(|candidate| {
            (
                strsim::osa_distance(&lower, &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate);
    // Half of a word is one too: `experiment` for `experiment_name`.
    near.or_else(|| {
        known
            .into_iter()
            .find(|candidate| lower.len() >= 4 && candidate.starts_with(&format!("{lower}_")))
    })
}

/// `did you mean …?`, or the list of what there is where that is short.
pub(crate) fn did_you_mean<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> Option<String> {
    if let Some(candidate) = nearest(name, known.clone()) {
        return Some(format!("did you mean `{candidate}`?"));
    }
    let known: Vec<String> = known.into_iter().map(|name| format!("`{name}`")).collect();
    match known.len() {
        0 => None,
        1..=12 => Some(format!("known here: {}", known.join(", "))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{did_you_mean, nearest};

    #[test]
    fn slips_are_found_and_other_words_are_not() {
        assert_eq!(nearest("wriet", ["write", "paint"]), Some("write"));
        assert_eq!(
            nearest("uri_foldr", ["uri_file", "uri_folder"]),
            Some("uri_folder")
        );
        assert_eq!(nearest("x", ["seed"]), None);
        assert_eq!(
            did_you_mean("zzz", ["a", "b"]).unwrap(),
            "known here: `a`, `b`"
        );
    }
}
