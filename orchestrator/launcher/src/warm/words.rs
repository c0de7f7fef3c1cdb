//! Whether a command is nothing but words, so that no shell is needed to read it.

/// The words of `text` as a shell reads them, where it has nothing else to do: no
/// variables, patterns, pipes or assignments. `None` where it has, or might have.
pub(crate) fn plain_words(text: &str) -> Option<Vec<String>> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = text.trim_end().chars();
    while let Some(letter) = letters.next() {
        match letter {
            // A line's end parts commands; within one it only parts words where it is
            // folded, which YAML has done already.
            ' ' | '\t' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next()? {
                        '\'' => break,
                        letter => word.push(letter),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next()? {
                        '"' => break,
                        '$' | '`' | '\\' | '!' => return None,
                        letter => word.push(letter),
                    }
                }
            }
            '=' if words.is_empty() => return None,
            letter if is_plain(letter) => word.get_or_insert_default().push(letter),
            _ => return None,
        }
    }
    words.extend(word);
    (!words.is_empty()).then_some(words)
}

/// Means itself, wherever it stands in a word.
fn is_plain(letter: char) -> bool {
    letter.is_alphanumeric() || "_@%+=:,./-".contains(letter)
}

#[cfg(test)]
mod tests {
    use super::plain_words;
    use std::process::Command;

    #[test]
    fn words_are_those_of_a_shell() {
        for text in [
            "auria-haiku write --seed 7 --mood 'joy of \"all\"' --topic '' --out /a/b",
            "a  b\tc ",
            "say \"it is so\" x'y'\"z\" größe=1",
            "p --set a=b,c:d/e+f@g%h",
        ] {
            let script = format!("f() {{ printf '%s\\n' \"$@\"; }}; f {text}");
            let said = Command::new("bash").args(["-c", &script]).output().unwrap();
            let theirs: Vec<String> = String::from_utf8(said.stdout)
                .unwrap()
                .lines()
                .map(str::to_owned)
                .collect();
            assert_eq!(plain_words(text).unwrap(), theirs, "{text}");
        }
    }

    #[test]
    fn what_a_shell_would_change_is_not_plain() {
        for text in [
            "a | b", "a; b", "a && b", "a > f", "a $X", "a \"$X\"", "a `b`", "X=1 a", "a *", "a ?",
            "a [b]", "a {b,c}", "a ~", "a #b", "a \\ b", "a\nb", "a 'b", "a \"b", "(a)", "! a", "",
            "  ",
        ] {
            assert_eq!(plain_words(text), None, "{text}");
        }
    }
}
