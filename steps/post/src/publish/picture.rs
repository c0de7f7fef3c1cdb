//! The picture as the networks want it: a JPEG of 1080 by 1080 pixels.
//!
//! The largest square in the middle of the coloured painting, scaled. Same painting, same bytes.

use std::io::Cursor;
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;

use crate::work::WorkError;

/// Width and height in pixels.
pub const SIDE: u32 = 1080;
/// Bytes that both networks take: X takes 5 MB, Instagram 8 MiB.
const MOST_BYTES: usize = 5_000_000;

/// The JPEG of the picture in `path`.
///
/// # Errors
/// When the file is missing or no whole picture.
pub fn jpeg(path: &Path) -> Result<Vec<u8>, WorkError> {
    let bytes = std::fs::read(path).map_err(|source| WorkError::Read {
        path: path.to_owned(),
        source,
    })?;
    let wrong = |source| WorkError::Picture {
        path: path.to_owned(),
        source,
    };
    let picture =
        image::load_from_memory_with_format(&bytes, image::ImageFormat::Png).map_err(wrong)?;
    // Cut before it is scaled: a long strip would become a very long one.
    let (width, height) = (picture.width(), picture.height());
    let side = width.min(height);
    let picture = picture
        .crop_imm((width - side) / 2, (height - side) / 2, side, side)
        .resize_exact(SIDE, SIDE, FilterType::Lanczos3)
        .into_rgb8();
    let mut quality = 92;
    loop {
        let mut bytes = Cursor::new(Vec::new());
        picture
            .write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, quality))
            .map_err(wrong)?;
        let bytes = bytes.into_inner();
        if bytes.len() <= MOST_BYTES || quality < 40 {
            return Ok(bytes);
        }
        quality -= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_painting_becomes_a_square_jpeg() {
        let root = tempfile::tempdir().unwrap();
        for (width, height) in [(1024, 1024), (24, 16), (1, 3000)] {
            let path = root.path().join("p.png");
            image::RgbaImage::from_pixel(width, height, image::Rgba([10, 200, 30, 255]))
                .save(&path)
                .unwrap();
            let bytes = jpeg(&path).unwrap();
            assert_eq!(bytes, jpeg(&path).unwrap());
            let seen = image::load_from_memory_with_format(&bytes, image::ImageFormat::Jpeg);
            let seen = seen.unwrap();
            assert_eq!((seen.width(), seen.height()), (SIDE, SIDE));
        }
        std::fs::write(root.path().join("p.png"), b"nothing").unwrap();
        assert!(jpeg(&root.path().join("p.png")).is_err());
    }
}
