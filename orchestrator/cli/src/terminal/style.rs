//! Colours, symbols and times as text.

use auria_core::outcome::Status;

/// Paints text where colours are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    colour: bool,
}

impl Paint {
    /// With or without colours.
    pub fn new(colour: bool) -> Self {
        Self { colour }
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// Of less weight.
    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// Of more weight.
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// An error.
    pub fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    /// A warning.
    pub fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }

    /// `text` in the colour of `status`.
    pub fn status(self, status: Status, text: &str) -> String {
        match status {
            Status::Completed => self.wrap("32", text),
            Status::Reused => self.wrap("36", text),
            Status::Failed | Status::NotResponding => self.wrap("31", text),
            Status::Canceled | Status::CancelRequested => self.wrap("33", text),
            Status::Preparing | Status::Running | Status::Finalizing => self.wrap("34", text),
            Status::NotStarted | Status::Queued | Status::Skipped => self.wrap("2", text),
        }
    }
}

/// The sign that stands before a step.
pub fn symbol(status: Status) -> &'static str {
    match status {
        Status::Completed => "✓",
        Status::Reused => "↺",
        Status::Failed | Status::NotResponding => "✗",
        Status::Canceled | Status::CancelRequested => "■",
        Status::Preparing => "◔",
        Status::Running => "●",
        Status::Finalizing => "◕",
        Status::Queued => "○",
        Status::NotStarted | Status::Skipped => "·",
    }
}

/// Milliseconds as people read them: `850 ms`, `3.4 s`, `2 min 05 s`, `1 h 02 min`.
pub fn duration(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {:02} s", millis / 60_000, millis % 60_000 / 1_000),
        _ => format!(
            "{} h {:02} min",
            millis / 3_600_000,
            millis % 3_600_000 / 60_000
        ),
    }
}

/// Bytes as people read them: `850 bytes`, `3.4 KiB`, `12.0 MiB`, `1.5 GiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let mut tenths = u128::from(bytes) * 10;
    let mut unit = "bytes";
    for next in UNITS {
        if tenths < 10_240 {
            break;
        }
        (tenths, unit) = (tenths / 1024, next);
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// At most `width` columns of `text`, on one line, without control characters.
pub fn fit(text: &str, width: usize) -> String {
    use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};
    let clean: String = text
        .chars()
        .map(|c| if c == '\t' { ' ' } else { c })
        .filter(|c| !c.is_control())
        .collect();
    if clean.width() <= width {
        return clean;
    }
    let mut fitted = String::new();
    let mut used = 0;
    for c in clean.chars() {
        let columns = c.width().unwrap_or(0);
        if used + columns + 1 > width {
            break;
        }
        used += columns;
        fitted.push(c);
    }
    if width > 0 {
        fitted.push('…');
    }
    fitted
}

#[cfg(test)]
mod tests {
    use super::{duration, fit, size};

    #[test]
    fn times_and_widths() {
        assert_eq!(duration(850), "850 ms");
        assert_eq!(duration(3_449), "3.4 s");
        assert_eq!(duration(125_000), "2 min 05 s");
        assert_eq!(duration(3_720_000), "1 h 02 min");
        assert_eq!(size(850), "850 bytes");
        assert_eq!(size(3_500), "3.4 KiB");
        assert_eq!(size(12 << 20), "12.0 MiB");
        assert_eq!(size(3 << 40), "3.0 TiB");
        assert_eq!(size(5_000 << 40), "5000.0 TiB");
        assert_eq!(fit("a\x1b[31mb\tc", 80), "a[31mb c");
        assert_eq!(fit("冬の月冬の月", 6), "冬の…");
        assert_eq!(fit("abcdef", 6), "abcdef");
    }
}
