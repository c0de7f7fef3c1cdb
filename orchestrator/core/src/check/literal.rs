//! Literals: whether one fits a declared type, and the text that a command sees.

use super::types::{InputDecl, InputType, Literal, ParameterType};
use crate::document::{Node, Resolved};

impl Literal {
    /// The literal that `node` is; none for a collection.
    pub(crate) fn of(node: &Node) -> Option<Self> {
        let scalar = node.as_scalar()?;
        Some(Self {
            text: scalar.text.clone(),
            resolved: scalar.resolved.clone(),
            place: node.shown_at().clone(),
        })
    }

    /// The text that a command sees where nothing declares a type: booleans as
    /// `True` and `False`, numbers as they are written, others in decimal.
    #[must_use]
    pub fn shown(&self) -> String {
        match self.resolved {
            Resolved::Null => String::new(),
            Resolved::Bool(true) => "True".to_owned(),
            Resolved::Bool(false) => "False".to_owned(),
            Resolved::Int(value) if is_decimal(&self.text) => {
                let _ = value;
                self.text.clone()
            }
            Resolved::Int(value) => value.to_string(),
            Resolved::Float(value) if self.text.contains([':', '_']) => value.to_string(),
            Resolved::Float(_) | Resolved::Text => self.text.clone(),
        }
    }

    /// The text that a command sees where `declared` says what this is.
    ///
    /// # Errors
    /// What it is instead.
    pub fn as_type(&self, declared: ParameterType) -> Result<String, String> {
        match declared {
            ParameterType::String => Ok(self.text.clone()),
            ParameterType::Boolean => match &self.resolved {
                Resolved::Bool(_) => Ok(self.shown()),
                Resolved::Text if self.text.eq_ignore_ascii_case("true") => Ok("True".to_owned()),
                Resolved::Text if self.text.eq_ignore_ascii_case("false") => Ok("False".to_owned()),
                _ => Err(format!("`{}` is not true or false", self.text)),
            },
            ParameterType::Integer => match &self.resolved {
                Resolved::Int(_) => Ok(self.shown()),
                Resolved::Text if is_decimal(&self.text) => Ok(self.text.clone()),
                _ => Err(format!("`{}` is not a whole number", self.text)),
            },
            ParameterType::Number => match number_of(&self.text, &self.resolved) {
                Some(_) => Ok(self.shown()),
                None => Err(format!("`{}` is not a number", self.text)),
            },
        }
    }

    /// The text that a command sees for the input `decl`.
    ///
    /// # Errors
    /// Why it does not fit: type, range, choice.
    pub fn for_input(&self, decl: &InputDecl) -> Result<String, String> {
        let InputType::Parameter(declared) = decl.input_type else {
            return Ok(self.shown());
        };
        let text = self.as_type(declared)?;
        let number = number_of(&self.text, &self.resolved);
        if let (Some(number), Some(min)) = (number, decl.min)
            && number < min
        {
            return Err(format!("{} is less than `min`, {min}", self.text));
        }
        if let (Some(number), Some(max)) = (number, decl.max)
            && number > max
        {
            return Err(format!("{} is greater than `max`, {max}", self.text));
        }
        let equal = |choice: &Literal| {
            choice.as_type(declared).is_ok_and(|choice| choice == text)
                || number
                    .is_some_and(|number| number_of(&choice.text, &choice.resolved) == Some(number))
        };
        if !decl.choices.is_empty() && !decl.choices.iter().any(equal) {
            let choices: Vec<_> = decl
                .choices
                .iter()
                .map(|choice| format!("`{}`", choice.text))
                .collect();
            return Err(format!("`{}` is none of {}", self.text, choices.join(", ")));
        }
        Ok(text)
    }
}

/// Whether it is a whole number as every program reads it.
fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain && (digits == "0" || !digits.starts_with('0'))
}

/// The number that a scalar is, declared as a number: so `1e-3` counts.
pub(crate) fn number_of(text: &str, resolved: &Resolved) -> Option<f64> {
    match resolved {
        Resolved::Int(value) => Some(*value as f64),
        Resolved::Float(value) => Some(*value),
        Resolved::Text if text.bytes().any(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::types::{Literal, ParameterType};
    use crate::document::{Node, Place, Source};

    fn literal(text: &str) -> Literal {
        let place = Place::new(&Source::new("t", text), 0..text.len());
        Literal::of(&Node::plain(text, place)).unwrap()
    }

    #[test]
    fn the_declared_type_reads_the_raw_text() {
        use ParameterType::{Boolean, Integer, Number, String};
        let cases = [
            ("010", String, Ok("010")),
            ("yes", String, Ok("yes")),
            ("1e-3", Number, Ok("1e-3")),
            ("010", Integer, Ok("8")),
            ("7", Integer, Ok("7")),
            ("1_000", Integer, Ok("1000")),
            ("yes", Boolean, Ok("True")),
            ("FALSE", Boolean, Ok("False")),
            ("joy", Integer, Err(())),
            ("1.5", Integer, Err(())),
            ("joy", Number, Err(())),
            ("1", Boolean, Err(())),
        ];
        for (text, declared, expected) in cases {
            let read = literal(text).as_type(declared).map_err(drop);
            assert_eq!(
                read.as_deref(),
                expected.as_ref().map(|text| *text).map_err(|()| &()),
                "{text}"
            );
        }
        assert_eq!(literal("true").shown(), "True");
        assert_eq!(literal("0x10").shown(), "16");
        assert_eq!(literal("-3").shown(), "-3");
    }
}
