//! How an untagged scalar is read where nothing declares its type: as PyYAML
//! reads it (YAML 1.1), because that is what Azure ML's own tools see. Dates stay
//! text. The raw text is kept beside it, so that a declared type can read the
//! same characters in its own way.

/// What the characters of a scalar say on their own.
#[derive(Clone, Debug, PartialEq)]
pub enum Resolved {
    /// Nothing, `~` or `null`.
    Null,
    /// `yes`, `no`, `on`, `off`, `true`, `false`.
    Bool(bool),
    /// A whole number, in any of YAML 1.1's notations.
    Int(i64),
    /// Any other number, and whole ones too large for `i64`.
    Float(f64),
    /// Everything else.
    Text,
}

/// Reads a plain (unquoted) scalar.
#[must_use]
pub fn resolve_plain(text: &str) -> Resolved {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Resolved::Null,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Resolved::Bool(true);
        }
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Resolved::Bool(false);
        }
        _ => {}
    }
    integer(text)
        .or_else(|| float(text))
        .unwrap_or(Resolved::Text)
}

fn split_sign(text: &str) -> (bool, &str) {
    match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    }
}

fn all(text: &str, digit: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte == b'_' || digit(byte))
}

/// PyYAML: `[-+]?0b[0-1_]+ | [-+]?0[0-7_]+ | [-+]?(?:0|[1-9][0-9_]*) |
/// [-+]?0x[0-9a-fA-F_]+ | [-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+`.
fn integer(text: &str) -> Option<Resolved> {
    let (negative, body) = split_sign(text);
    let (digits, radix) = if let Some(digits) = body.strip_prefix("0b") {
        (digits, 2)
    } else if let Some(digits) = body.strip_prefix("0x") {
        (digits, 16)
    } else if body == "0" {
        return Some(Resolved::Int(0));
    } else if let Some(digits) = body.strip_prefix('0') {
        (digits, 8)
    } else if body.contains(':') {
        return sexagesimal(negative, body);
    } else {
        (body, 10)
    };
    if !all(digits, |byte| char::from(byte).is_digit(radix))
        || (radix == 10 && digits.starts_with('_'))
    {
        return None;
    }
    let digits = digits.replace('_', "");
    if digits.is_empty() {
        // PyYAML's pattern takes `0x_` and its constructor then fails on it.
        return None;
    }
    let sign = if negative { -1 } else { 1 };
    Some(match i64::from_str_radix(&digits, radix) {
        Ok(value) => Resolved::Int(value * sign),
        Err(_) => {
            let value = digits.bytes().fold(0.0, |sum, byte| {
                sum * f64::from(radix) + f64::from(char::from(byte).to_digit(radix).unwrap_or(0))
            });
            Resolved::Float(if negative { -value } else { value })
        }
    })
}

fn sexagesimal(negative: bool, body: &str) -> Option<Resolved> {
    let mut parts = body.split(':');
    let first = parts.next()?;
    if !matches!(first.as_bytes().first(), Some(b'1'..=b'9'))
        || !all(first, |byte| byte.is_ascii_digit())
    {
        return None;
    }
    let mut value: i64 = first.replace('_', "").parse().ok()?;
    for part in parts {
        let fits = match part.as_bytes() {
            [b'0'..=b'9'] => true,
            [tens, ones] => matches!(tens, b'0'..=b'5') && ones.is_ascii_digit(),
            _ => false,
        };
        if !fits {
            return None;
        }
        value = value.checked_mul(60)?.checked_add(part.parse().ok()?)?;
    }
    Some(Resolved::Int(if negative { -value } else { value }))
}

/// PyYAML: a number needs a dot to be a float, and an exponent needs a sign, so
/// `1e-3` and `1.0e3` are text while `1.0e-3` is not.
fn float(text: &str) -> Option<Resolved> {
    let (negative, body) = split_sign(text);
    if matches!(body, ".inf" | ".Inf" | ".INF") {
        return Some(Resolved::Float(if negative {
            f64::NEG_INFINITY
        } else {
            f64::INFINITY
        }));
    }
    if matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Some(Resolved::Float(f64::NAN));
    }
    if body.contains(':') {
        return sexagesimal_float(negative, body);
    }
    let (whole, rest) = body.split_once('.')?;
    // `.5` takes no sign there, `0.5` does.
    let whole_ok = if whole.is_empty() {
        body.len() == text.len()
    } else {
        starts_with_digit(whole) && digits(whole)
    };
    let (fraction, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    let fraction_ok = if whole.is_empty() {
        starts_with_digit(fraction) && digits(fraction)
    } else {
        fraction.is_empty() || digits(fraction)
    };
    let exponent_ok = exponent.is_none_or(|exponent| {
        matches!(exponent.as_bytes(), [b'+' | b'-', rest @ ..] if !rest.is_empty() && rest.iter().all(u8::is_ascii_digit))
    });
    if !(whole_ok && fraction_ok && exponent_ok) {
        return None;
    }
    text.replace('_', "").parse().ok().map(Resolved::Float)
}

fn digits(text: &str) -> bool {
    all(text, |byte| byte.is_ascii_digit())
}

fn starts_with_digit(text: &str) -> bool {
    text.as_bytes().first().is_some_and(u8::is_ascii_digit)
}

fn sexagesimal_float(negative: bool, body: &str) -> Option<Resolved> {
    let (whole, fraction) = body.rsplit_once('.')?;
    if !(fraction.is_empty() || digits(fraction)) {
        return None;
    }
    // The pattern takes a leading zero here, which whole numbers do not.
    let padded = format!("1{whole}");
    let Some(Resolved::Int(_)) = sexagesimal(false, &padded) else {
        return None;
    };
    if !starts_with_digit(whole) {
        return None;
    }
    let mut value = 0.0;
    for part in whole.split(':') {
        value = value * 60.0 + part.replace('_', "").parse::<f64>().ok()?;
    }
    let fraction: f64 = format!("0.{}0", fraction.replace('_', "")).parse().ok()?;
    Some(Resolved::Float(if negative {
        -(value + fraction)
    } else {
        value + fraction
    }))
}

#[cfg(test)]
mod tests {
    use super::{Resolved, resolve_plain};

    /// Each line was read with PyYAML 6 (`yaml.safe_load`).
    #[test]
    fn reads_as_pyyaml_does() {
        use Resolved::{Bool, Float, Int, Null, Text};
        let cases: &[(&str, Resolved)] = &[
            ("", Null),
            ("~", Null),
            ("yes", Bool(true)),
            ("Off", Bool(false)),
            ("y", Text),
            ("tRue", Text),
            ("010", Int(8)),
            ("08", Text),
            ("0o17", Text),
            ("0x1F", Int(31)),
            ("0b101", Int(5)),
            ("1_000", Int(1000)),
            ("_1", Text),
            ("-12", Int(-12)),
            ("+12", Int(12)),
            ("1:30", Int(90)),
            ("1:75", Text),
            ("01:30", Text),
            ("190:20:30", Int(685_230)),
            ("1e-3", Text),
            ("1e3", Text),
            ("1.0e3", Text),
            ("1.0e-3", Float(0.001)),
            ("1.5", Float(1.5)),
            ("1.", Float(1.0)),
            (".5", Float(0.5)),
            ("-.5", Text),
            ("6.8523015e+5", Float(685_230.15)),
            ("685_230.15", Float(685_230.15)),
            ("1:30.5", Float(90.5)),
            (".inf", Float(f64::INFINITY)),
            ("-.INF", Float(f64::NEG_INFINITY)),
            ("2026-01-02", Text),
            ("1.2.3", Text),
            ("v1", Text),
            ("-", Text),
            (".", Text),
        ];
        for (text, expected) in cases {
            assert_eq!(resolve_plain(text), *expected, "{text}");
        }
    }
}
