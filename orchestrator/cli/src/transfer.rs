//! Shows how far a transfer is, where it takes longer than two seconds, and ends it
//! at Ctrl-C. What is half there has no name yet, so there is nothing to clear up.

use crate::edge::Terminal;
use crate::failure::Failure;
use auria_store::{Store, StoreError};
use std::io::Write;
use std::time::{Duration, Instant};

/// Shorter ones show nothing.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks where the line can be rewritten.
const FRAME: Duration = Duration::from_millis(200);
/// Between two lines elsewhere.
const LINE: Duration = Duration::from_secs(10);

/// Does `work`, which moves `total` bytes of `store`, and shows how far it is.
///
/// # Errors
/// Those of `work`; where Ctrl-C ended it.
pub async fn shown<T>(
    store: &Store,
    what: &str,
    total: u64,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, Failure> {
    let (begun, before) = (Instant::now(), store.moved());
    let terminal = Terminal::of_stderr();
    let mut work = std::pin::pin!(work);
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let mut drawn = false;
    let mut wait = PATIENCE;
    let result = loop {
        tokio::select! {
            result = &mut work => break result.map_err(Failure::from),
            _ = &mut interrupt => {
                let message = format!("interrupted: {what} is not complete");
                break Err(Failure::interrupted(message));
            }
            () = tokio::time::sleep(wait) => {
                let moved = store.moved().saturating_sub(before).min(total);
                let text = line(what, moved, total, begun.elapsed());
                // Progress is a courtesy: a closed pipe must not end the transfer.
                let _ = if terminal.live {
                    write!(std::io::stderr(), "\r\x1b[K{text}")
                } else {
                    writeln!(std::io::stderr(), "{text}")
                };
                drawn = terminal.live;
                wait = if terminal.live { FRAME } else { LINE };
            }
        }
    };
    if drawn {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
    result
}

fn line(what: &str, moved: u64, total: u64, elapsed: Duration) -> String {
    let each_second = moved as f64 / elapsed.as_secs_f64().max(0.001);
    let percent = (moved * 100).checked_div(total).unwrap_or(100);
    format!(
        "{what}: {} of {} ({percent} %), {}/s",
        bytes(moved as f64),
        bytes(total as f64),
        bytes(each_second)
    )
}

/// Bytes as people read them: `17 B`, `3.4 MiB`.
fn bytes(count: f64) -> String {
    let mut rest = count;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if rest < 1024.0 {
            let digits = usize::from(unit != "B" && rest < 100.0);
            return format!("{rest:.digits$} {unit}");
        }
        rest /= 1024.0;
    }
    format!("{rest:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::{bytes, line};
    use std::time::Duration;

    #[test]
    fn a_line_says_how_far_it_is() {
        let text = line("paint.picture", 3 << 20, 4 << 30, Duration::from_secs(2));
        assert_eq!(text, "paint.picture: 3.0 MiB of 4.0 GiB (0 %), 1.5 MiB/s");
        assert_eq!(bytes(17.0), "17 B");
        assert_eq!(bytes(1023.0 * 1024.0), "1023 KiB");
        assert!(line("x", 0, 0, Duration::ZERO).contains("100 %"));
    }
}
