//! Amounts as files write them: times, bytes, CPUs.

/// Milliseconds of `90` (seconds), `90s`, `30m`, `12h`, `7d`, `250ms`.
#[must_use]
pub fn duration_ms(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, unit) = split(text)?;
    let factor = match unit {
        "ms" => 1.0,
        "" | "s" => 1_000.0,
        "m" | "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        "w" => 604_800_000.0,
        _ => return None,
    };
    whole(number * factor)
}

/// Bytes of `1048576`, `512Mi`, `512MiB`, `16G`, `16GB` (decimal), and Docker's
/// lower-case `2g`, which is binary.
#[must_use]
pub fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text.trim())?;
    let factor: f64 = match unit {
        "" | "B" | "b" => 1.0,
        "k" | "Ki" | "KiB" => 1024.0,
        "m" | "Mi" | "MiB" => 1_048_576.0,
        "g" | "Gi" | "GiB" => 1_073_741_824.0,
        "t" | "Ti" | "TiB" => 1_099_511_627_776.0,
        "K" | "KB" | "kB" => 1e3,
        "M" | "MB" => 1e6,
        "G" | "GB" => 1e9,
        "T" | "TB" => 1e12,
        _ => return None,
    };
    whole(number * factor)
}

/// Thousandths of a core of `2`, `0.5`, `500m`.
#[must_use]
pub fn cpu_millis(text: &str) -> Option<u64> {
    let (number, unit) = split(text.trim())?;
    match unit {
        "" => whole(number * 1000.0),
        "m" => whole(number),
        _ => None,
    }
}

fn split(text: &str) -> Option<(f64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim()))
}

fn whole(value: f64) -> Option<u64> {
    // Above 2^53 a float no longer tells neighbours apart; nothing that large is meant.
    (value.is_finite() && (0.0..9e15).contains(&value)).then(|| value.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::{bytes, cpu_millis, duration_ms};

    #[test]
    fn amounts() {
        assert_eq!(duration_ms("90"), Some(90_000));
        assert_eq!(duration_ms("1.5h"), Some(5_400_000));
        assert_eq!(duration_ms("x"), None);
        assert_eq!(duration_ms("-1"), None);
        assert_eq!(bytes("2g"), Some(2 << 30));
        assert_eq!(bytes("16GB"), Some(16_000_000_000));
        assert_eq!(bytes("512Mi"), Some(512 << 20));
        assert_eq!(bytes("1 GiB"), Some(1 << 30));
        assert_eq!(bytes("1x"), None);
        assert_eq!(cpu_millis("0.5"), Some(500));
        assert_eq!(cpu_millis("250m"), Some(250));
    }
}
