//! A stream of bytes as its lines. It knows nothing of what they say.

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use std::fmt;

/// Why there are no more lines.
#[derive(Debug)]
pub(super) enum NoLine<E> {
    /// The stream failed.
    Stream(E),
    /// A line has no end within what one may have.
    TooLong,
}

impl<E: fmt::Display> fmt::Display for NoLine<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(error) => error.fmt(f),
            Self::TooLong => f.write_str("a line has no end"),
        }
    }
}

/// The lines of `stream`, without their ends, of at most `longest` bytes each. What stands
/// behind the last end is no line. After an error there is nothing.
pub(super) fn lines<E: Send + 'static>(
    stream: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    longest: usize,
) -> BoxStream<'static, Result<Vec<u8>, NoLine<E>>> {
    let begun = Some((stream.boxed(), Vec::new(), 0));
    futures::stream::unfold(begun, move |state| async move {
        let (mut stream, mut rest, mut searched) = state?;
        loop {
            let unread: &[u8] = rest.get(searched..).unwrap_or_default();
            if let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = rest.drain(..=searched + end).collect();
                line.pop();
                return Some((Ok(line), Some((stream, rest, 0))));
            }
            if rest.len() > longest {
                return Some((Err(NoLine::TooLong), None));
            }
            searched = rest.len();
            match stream.next().await? {
                Ok(bytes) => rest.extend_from_slice(&bytes),
                Err(error) => return Some((Err(NoLine::Stream(error)), None)),
            }
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::{NoLine, lines};
    use bytes::Bytes;
    use futures::StreamExt;

    async fn read(pieces: Vec<Result<&'static str, &'static str>>) -> Vec<String> {
        let pieces = pieces.into_iter().map(|piece| piece.map(Bytes::from));
        let found = lines(futures::stream::iter(pieces), 8);
        let said = found.map(|line| match line {
            Ok(line) => String::from_utf8(line).unwrap(),
            Err(NoLine::TooLong) => "too long".to_owned(),
            Err(NoLine::Stream(error)) => error.to_owned(),
        });
        said.collect().await
    }

    #[tokio::test]
    async fn lines_are_found_across_pieces() {
        let pieces = vec![Ok("da"), Ok("ta: 1\n\nda"), Ok("ta: 2\n"), Ok("rest")];
        assert_eq!(read(pieces).await, ["data: 1", "", "data: 2"]);
    }

    #[tokio::test]
    async fn what_is_too_long_or_fails_ends_it() {
        let pieces = vec![Ok("a\n12345"), Ok("6789"), Ok("\nb\n")];
        assert_eq!(read(pieces).await, ["a", "too long"]);
        let pieces = vec![Ok("a\nb"), Err("broken"), Ok("\n")];
        assert_eq!(read(pieces).await, ["a", "broken"]);
    }
}
