//! From checked pieces of text to the plan's templates, and the program that a
//! command starts.

use crate::check::{Expression, Piece};
use crate::plan::{Template, TemplatePart};

/// What expressions that are not bindings stand for.
pub(super) struct Words<'a> {
    /// `${{name}}`.
    pub(super) run: &'a str,
    /// `${{default_datastore}}`.
    pub(super) datastore: &'a str,
}

/// The template that `pieces` are. The check let nothing else through.
pub(super) fn template(pieces: &[Piece], words: &Words<'_>) -> Template {
    let mut parts: Vec<TemplatePart> = Vec::with_capacity(pieces.len());
    let push_text = |parts: &mut Vec<TemplatePart>, text: &str| match parts.last_mut() {
        Some(TemplatePart::Text(last)) => last.push_str(text),
        _ => parts.push(TemplatePart::Text(text.to_owned())),
    };
    for piece in pieces {
        match piece {
            Piece::Text(text) => push_text(&mut parts, text),
            Piece::Optional(inner) => parts.push(TemplatePart::Optional(template(inner, words).0)),
            Piece::Expression(Expression::Input(name), _) => {
                parts.push(TemplatePart::Input(name.clone()))
            }
            Piece::Expression(Expression::Output(name), _) => {
                parts.push(TemplatePart::Output(name.clone()))
            }
            Piece::Expression(Expression::Name, _) => push_text(&mut parts, words.run),
            Piece::Expression(Expression::DefaultDatastore, _) => {
                push_text(&mut parts, words.datastore)
            }
            Piece::Expression(_, _) => {}
        }
    }
    Template(parts)
}

/// Words with which a shell does something itself: no file is behind them.
const OF_THE_SHELL: &[&str] = &[
    ".", ":", "[[", "alias", "bg", "break", "case", "cd", "command", "continue", "declare", "eval",
    "exec", "exit", "export", "for", "function", "if", "local", "read", "readonly", "return",
    "select", "set", "shift", "shopt", "source", "time", "trap", "type", "ulimit", "umask",
    "unset", "until", "wait", "while", "{", "!",
];

/// The program that a command's first word names: not one inside the code folder,
/// whose snapshot covers it already, and none where the shell itself is meant or
/// the word is known only at run time.
pub(super) fn program(pieces: &[Piece]) -> Option<&str> {
    let Some(Piece::Text(text)) = pieces.first() else {
        return None;
    };
    let mut rest = text.trim_start();
    let word = loop {
        let end = rest.find(char::is_whitespace);
        let word = &rest[..end.unwrap_or(rest.len())];
        // A word that an expression goes on with is not known here.
        if end.is_none() && pieces.len() > 1 {
            return None;
        }
        if !is_assignment(word) {
            break word;
        }
        rest = rest[word.len()..].trim_start();
    };
    let word = word.split([';', '&', '|', '<', '>']).next().unwrap_or(word);
    let quoted = ['\'', '"']
        .iter()
        .find_map(|quote| word.strip_prefix(*quote)?.strip_suffix(*quote));
    let word = quoted.unwrap_or(word);
    let unknown = word.is_empty()
        || word.contains(['$', '`', '(', ')', '"', '\'', '\\', '*', '?', '#', '~'])
        || OF_THE_SHELL.contains(&word)
        || (word.contains('/') && !word.starts_with('/'));
    (!unknown).then_some(word)
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, value)| {
        let mut bytes = name.bytes();
        matches!(bytes.next(), Some(b'a'..=b'z' | b'A'..=b'Z' | b'_'))
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !value.contains(['"', '\'', '$', '`', '\\'])
    })
}

#[cfg(test)]
mod tests {
    use super::program;
    use crate::check::{Expression, Piece};

    #[test]
    fn the_first_word_is_found_behind_assignments() {
        let cases = [
            ("auria-haiku write --seed 1", Some("auria-haiku")),
            ("  python train.py", Some("python")),
            ("A=1 B=x python", Some("python")),
            ("ls;true", Some("ls")),
            ("'my tool'", None),
            ("\"tool\" x", Some("tool")),
            ("/bin/sh -c x", Some("/bin/sh")),
            ("./run.sh", None),
            ("cd x && y", None),
            ("(a; b)", None),
            ("$TOOL x", None),
            ("A=\"x y\" z", None),
            ("# nothing", None),
            ("", None),
        ];
        for (command, expected) in cases {
            assert_eq!(
                program(&[Piece::Text(command.to_owned())]),
                expected,
                "{command}"
            );
        }
        let input = Piece::Expression(Expression::Input("x".into()), 0);
        assert_eq!(program(&[Piece::Text("tool-".into()), input.clone()]), None);
        assert_eq!(program(&[Piece::Text("tool ".into()), input]), Some("tool"));
    }
}
