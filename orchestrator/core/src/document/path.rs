//! Paths as they are written in files, joined without touching a file system.

/// `reference` as seen from the file `holder`: both with `/`, `.` and `..`
/// resolved by their text alone. `file:` and `file://` before it are dropped.
#[must_use]
pub fn resolve_path(holder: &str, reference: &str) -> String {
    let reference = reference
        .strip_prefix("file:")
        .map_or(reference, |rest| match rest {
            _ if rest.starts_with("///") => &rest[2..],
            _ => rest.strip_prefix("//").unwrap_or(rest),
        });
    let folder = holder.rfind('/').map_or("", |at| &holder[..=at]);
    let joined = if reference.starts_with('/') {
        reference.to_owned()
    } else {
        format!("{folder}{reference}")
    };
    let absolute = joined.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => drop(parts.pop()),
                _ if absolute => {}
                _ => parts.push(".."),
            },
            _ => parts.push(part),
        }
    }
    let path = parts.join("/");
    match (absolute, path.is_empty()) {
        (true, _) => format!("/{path}"),
        (false, true) => ".".to_owned(),
        (false, false) => path,
    }
}

#[cfg(test)]
mod tests {
    use super::resolve_path;

    #[test]
    fn paths_are_relative_to_the_file_that_holds_them() {
        let cases = [
            ("pipelines.yaml", "./steps/post.yml", "steps/post.yml"),
            ("a/b/p.yml", "../c.yml", "a/c.yml"),
            ("a/p.yml", "../../c.yml", "../c.yml"),
            ("/x/p.yml", "./c", "/x/c"),
            ("/x/p.yml", "../../c", "/c"),
            ("a/p.yml", "/abs/c", "/abs/c"),
            ("a/p.yml", "file:./c.yml", "a/c.yml"),
            ("a/p.yml", "file:///c.yml", "/c.yml"),
            ("p.yml", ".", "."),
            ("a/p.yml", "..", "."),
        ];
        for (holder, reference, expected) in cases {
            assert_eq!(
                resolve_path(holder, reference),
                expected,
                "{holder} + {reference}"
            );
        }
    }
}
