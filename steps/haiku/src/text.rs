//! From text to tokens and back. A token is a word in lower case or a mark of
//! punctuation; a poem is lines of tokens. Knows nothing of vocabularies or numbers.

/// The marks that are tokens; all others become one of them or vanish.
pub const MARKS: &[&str] = &[",", ";", ":", "—", ".", "!", "?"];

/// A token with whether it was written with a capital letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The word in lower case, or the mark.
    pub text: String,
    /// Whether the first letter was a capital.
    pub capital: bool,
}

impl Token {
    /// Whether this is a mark of punctuation.
    pub fn is_mark(&self) -> bool {
        is_mark(&self.text)
    }
}

/// Whether a token is a mark of punctuation.
pub fn is_mark(token: &str) -> bool {
    MARKS.contains(&token)
}

/// Splits a line into tokens. Letters and apostrophes inside of words are kept; quotes,
/// brackets and digits are dropped; runs of marks become their last strong one.
pub fn tokens(line: &str) -> Vec<Token> {
    let mut out: Vec<Token> = Vec::new();
    let mut word = String::new();
    let chars: Vec<char> = line.chars().map(plain).collect();
    let push = |word: &mut String, out: &mut Vec<Token>| {
        let trimmed = word.trim_matches('\'');
        if !trimmed.is_empty() {
            let capital = trimmed.chars().next().is_some_and(char::is_uppercase);
            out.push(Token {
                text: trimmed.to_lowercase(),
                capital,
            });
        }
        word.clear();
    };
    let mut i = 0;
    while i < chars.len() {
        let c = chars[i];
        let dashes = chars[i..].iter().take_while(|&&d| d == '-').count();
        if c.is_alphabetic() || c == '\'' {
            word.push(c);
        } else {
            push(&mut word, &mut out);
            let mark = match c {
                // `--` is a dash, `-` inside of a compound parts two words.
                '—' => Some("—"),
                '-' if dashes > 1 => {
                    i += dashes - 1;
                    Some("—")
                }
                ',' => Some(","),
                ';' => Some(";"),
                ':' => Some(":"),
                '.' => Some("."),
                '!' => Some("!"),
                '?' => Some("?"),
                _ => None,
            };
            if let Some(mark) = mark {
                match out.last_mut() {
                    Some(last) if last.is_mark() => last.text = stronger(&last.text, mark).into(),
                    Some(_) => out.push(Token {
                        text: mark.into(),
                        capital: false,
                    }),
                    None => {}
                }
            }
        }
        i += 1;
    }
    push(&mut word, &mut out);
    out
}

/// One form for the letters and marks that are written in several.
fn plain(c: char) -> char {
    match c {
        '’' | '‘' | '`' | '´' => '\'',
        '–' | '―' => '—',
        'à' | 'á' | 'â' | 'ä' | 'ã' => 'a',
        'è' | 'é' | 'ê' | 'ë' => 'e',
        'ì' | 'í' | 'î' | 'ï' => 'i',
        'ò' | 'ó' | 'ô' | 'ö' => 'o',
        'ù' | 'ú' | 'û' | 'ü' => 'u',
        'ç' => 'c',
        'ñ' => 'n',
        c => c,
    }
}

fn stronger<'a>(a: &'a str, b: &'a str) -> &'a str {
    let rank = |m: &str| MARKS.iter().position(|k| *k == m);
    if rank(b) >= rank(a) { b } else { a }
}

/// Writes tokens as a line: marks stand at the word before them, a dash between blanks,
/// the pronoun I is a capital, all else is lower case.
pub fn line<'a>(tokens: impl IntoIterator<Item = &'a str>) -> String {
    let mut out = String::new();
    for token in tokens {
        if !out.is_empty() && (!is_mark(token) || token == "—") {
            out.push(' ');
        }
        if token == "i" || token.starts_with("i'") {
            out.push('I');
            out.push_str(&token[1..]);
        } else {
            out.push_str(token);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        tokens(line).into_iter().map(|t| t.text).collect()
    }

    #[test]
    fn lines_become_tokens() {
        assert_eq!(
            words("“Don’t go,” she said—now!"),
            ["don't", "go", ",", "she", "said", "—", "now", "!"]
        );
        assert_eq!(
            words("pine-forest -- dark..."),
            ["pine", "forest", "—", "dark", "."]
        );
        assert_eq!(
            words("'tis  the (old) café, 1890,"),
            ["tis", "the", "old", "cafe", ","]
        );
        assert_eq!(words("— , !"), Vec::<String>::new());
        assert_eq!(words("what?!"), ["what", "?"]);
        assert!(tokens("The Moon")[1].capital);
    }

    #[test]
    fn tokens_become_lines() {
        assert_eq!(
            line(["i", "wait", "—", "i'm", "still", ",", "old", "moon", "!"]),
            "I wait — I'm still, old moon!"
        );
        let same = "the pond, so quiet; a frog —";
        assert_eq!(line(words(same).iter().map(String::as_str)), same);
    }
}
