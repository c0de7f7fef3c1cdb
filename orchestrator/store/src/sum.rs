//! The sum by which a receiver compares what came with what was sent, as HTTP's
//! `Content-MD5` writes it. No safeguard against malice: digests of artifacts are blake3.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use md5::Digest;

/// The value of `Content-MD5` for `bytes`.
#[must_use]
pub fn content_md5(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(md5::Md5::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::content_md5;

    #[test]
    fn sums_are_written_as_base64() {
        // RFC 1864 has the form; the sums are those of `openssl md5 -binary | base64`.
        assert_eq!(content_md5(b""), "1B2M2Y8AsgTpgAmY7PhCfg==");
        assert_eq!(content_md5(b"abc"), "kAFQmDzST7DWlj99KOF/cg==");
    }
}
