//! "Did you mean": the nearest known name to one that is not known.

/// Longer names are not compared: nobody mistypes them.
const MAX_NAME: usize = 64;

/// Most names that one is compared with.
const MAX_COMPARED: usize = 500;

/// The name in `known` that `name` is most likely a slip of, if any is near.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > MAX_NAME {
        return None;
    }
    let lower = name.to_lowercase();
    // Of names with one or two letters any other is near.
    let allowed = (name.chars().count() / 3).min(3);
    let known: Vec<&str> = known.into_iter().collect();
    let near = known
        .iter()
        .copied()
        // Bytes differ at least as much as characters, but for letters with accents.
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= 2 * allowed)
        .take(MAX_COMPARED)
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
        known.into_iter().find(|candidate| {
            let rest = candidate.strip_prefix(lower.as_str());
            lower.len() >= 4 && rest.is_some_and(|rest| rest.starts_with('_'))
        })
    })
}

/// Most names that are listed.
const MAX_LISTED: usize = 12;

/// `did you mean …?`, or the list of what there is where that is short.
pub(crate) fn did_you_mean<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> Option<String> {
    if let Some(candidate) = nearest(name, known.clone()) {
        return Some(format!("did you mean `{candidate}`?"));
    }
    let known: Vec<&str> = known.into_iter().take(MAX_LISTED + 1).collect();
    if known.is_empty() || known.len() > MAX_LISTED {
        return None;
    }
    let known: Vec<String> = known
        .iter()
        .map(|name| match name.chars().count() {
            0..=MAX_NAME => format!("`{name}`"),
            _ => format!("`{}…`", name.chars().take(MAX_NAME).collect::<String>()),
        })
        .collect();
    Some(format!("known here: {}", known.join(", ")))
}

/// The help about a name that is not declared, where `help` may find none to name.
pub(crate) fn or_none(help: Option<String>) -> String {
    help.unwrap_or_else(|| {
        "none is declared there, or too many to list: look at the declaration".to_owned()
    })
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
