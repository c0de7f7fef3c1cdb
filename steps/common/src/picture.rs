//! Pictures as tensors: PNG and JPEG in, PNG and JPEG out. Never decodes a picture that
//! is larger than it was told to expect.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageReader, RgbImage};
use tch::{Kind, Tensor};

use crate::{Error, files};

/// What decoding may cost.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The longest side in pixels.
    pub side: u32,
    /// The most bytes of a file.
    pub file_bytes: u64,
    /// The most bytes that the decoder may allocate.
    pub memory_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            side: 16_384,
            file_bytes: 256 << 20,
            memory_bytes: 1 << 30,
        }
    }
}

/// A picture in memory.
#[derive(Debug)]
pub struct Picture {
    /// `[3, height, width]`, float, 0 to 1.
    pub rgb: Tensor,
    /// `[1, height, width]`, float, 0 (clear) to 1; none where all is opaque.
    pub alpha: Option<Tensor>,
}

impl Picture {
    /// An opaque picture of `[3, height, width]`, 0 to 1.
    pub fn opaque(rgb: Tensor) -> Self {
        Self { rgb, alpha: None }
    }

    /// Height and width in pixels.
    pub fn size(&self) -> (i64, i64) {
        let size = self.rgb.size();
        (size[1], size[2])
    }
}

/// Reads a PNG or JPEG, turned as its EXIF orientation says. Grey becomes three equal
/// channels; 16 bits keep their precision.
pub fn read(path: &Path, bounds: Bounds) -> Result<Picture, Error> {
    let length = std::fs::metadata(path).map_err(Error::read(path))?.len();
    if length > bounds.file_bytes {
        return Err(Error::content(
            path,
            format!(
                "has {length} bytes, more than the {} that are read",
                bounds.file_bytes
            ),
        ));
    }
    decode(path, &files::read(path)?, bounds)
}

/// Decodes a picture from memory; `name` is for messages.
pub fn decode(name: &Path, bytes: &[u8], bounds: Bounds) -> Result<Picture, Error> {
    let wrong = |source| Error::Picture {
        path: name.to_path_buf(),
        source,
    };
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(Error::read(name))?;
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(bounds.side);
    limits.max_image_height = Some(bounds.side);
    limits.max_alloc = Some(bounds.memory_bytes);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(wrong)?;
    let orientation = decoder.orientation().map_err(wrong)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(wrong)?;
    image.apply_orientation(orientation);
    Ok(of_image(&image))
}

/// The tensors of a decoded image.
fn of_image(image: &DynamicImage) -> Picture {
    let (width, height) = (i64::from(image.width()), i64::from(image.height()));
    let deep = image.color().bits_per_pixel() / u16::from(image.color().channel_count()) > 8;
    let channels = if image.color().has_alpha() { 4 } else { 3 };
    let flat = match (deep, channels) {
        (false, 3) => Tensor::from_slice(image.to_rgb8().as_raw()).to_kind(Kind::Float) / 255.0,
        (false, _) => Tensor::from_slice(image.to_rgba8().as_raw()).to_kind(Kind::Float) / 255.0,
        (true, 3) => Tensor::from_slice(image.to_rgb32f().as_raw()),
        (true, _) => Tensor::from_slice(image.to_rgba32f().as_raw()),
    };
    let planes = flat
        .view([height, width, channels])
        .permute([2, 0, 1])
        .contiguous();
    let alpha = (channels == 4).then(|| planes.narrow(0, 3, 1).contiguous());
    Picture {
        rgb: planes.narrow(0, 0, 3).contiguous(),
        alpha: alpha.filter(|a| a.min().double_value(&[]) < 1.0),
    }
}

/// Writes a picture as the ending of `path` says (`.png`, `.jpg`, `.jpeg`), whole or
/// not at all. Values are clamped to 0..1 and rounded; JPEG drops the alpha channel.
pub fn write(path: &Path, picture: &Picture) -> Result<(), Error> {
    let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    let format = match ending.as_deref() {
        Some("png") => image::ImageFormat::Png,
        Some("jpg" | "jpeg") => image::ImageFormat::Jpeg,
        _ => {
            return Err(Error::content(
                path,
                "a picture's name ends with .png, .jpg or .jpeg",
            ));
        }
    };
    files::write_atomic(path, &encode(path, picture, format)?)
}

/// Encodes a picture; `name` is for messages. Equal pictures give equal bytes.
pub fn encode(
    name: &Path,
    picture: &Picture,
    format: image::ImageFormat,
) -> Result<Vec<u8>, Error> {
    let (height, width) = picture.size();
    let odd = || Error::content(name, format!("cannot hold a picture of {width}×{height}"));
    let (w, h) = (u32::try_from(width), u32::try_from(height));
    let (Ok(w), Ok(h)) = (w, h) else {
        return Err(odd());
    };
    let alpha = picture
        .alpha
        .as_ref()
        .filter(|_| format == image::ImageFormat::Png);
    let image = match alpha {
        None => RgbImage::from_raw(w, h, interleave(&picture.rgb)).map(DynamicImage::ImageRgb8),
        Some(alpha) => {
            let all = Tensor::cat(&[&picture.rgb, alpha], 0);
            image::RgbaImage::from_raw(w, h, interleave(&all)).map(DynamicImage::ImageRgba8)
        }
    };
    let mut bytes = Cursor::new(Vec::new());
    let image = image.ok_or_else(odd)?;
    let encoded = match format {
        image::ImageFormat::Jpeg => image.write_with_encoder(
            image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 92),
        ),
        format => image.write_to(&mut bytes, format),
    };
    encoded.map_err(|source| Error::Picture {
        path: name.to_path_buf(),
        source,
    })?;
    Ok(bytes.into_inner())
}

/// `[channels, height, width]` of 0..1 to bytes, a pixel after the other. What is not a
/// number is black.
fn interleave(planes: &Tensor) -> Vec<u8> {
    let bytes = (planes
        .detach()
        .to_device(tch::Device::Cpu)
        .nan_to_num(0.0, 1.0, 0.0)
        * 255.0)
        .round()
        .clamp(0.0, 255.0)
        .to_kind(Kind::Uint8)
        .permute([1, 2, 0])
        .contiguous();
    let mut out = vec![0u8; bytes.numel()];
    let count = out.len();
    bytes.copy_data(&mut out, count);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient(channels: i64) -> Tensor {
        Tensor::arange(channels * 5 * 7, (Kind::Float, tch::Device::Cpu)).view([channels, 5, 7])
            / 255.0
    }

    #[test]
    fn a_png_comes_back_exactly_with_its_alpha() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        let alpha = Some(gradient(1));
        write(
            &path,
            &Picture {
                rgb: gradient(3),
                alpha,
            },
        )
        .unwrap();
        let back = read(&path, Bounds::default()).unwrap();
        assert_eq!(back.size(), (5, 7));
        assert!(back.rgb.allclose(&gradient(3), 0.0, 1e-6, false));
        assert!(back.alpha.unwrap().allclose(&gradient(1), 0.0, 1e-6, false));
        write(&path, &Picture::opaque(gradient(3))).unwrap();
        assert!(read(&path, Bounds::default()).unwrap().alpha.is_none());
    }

    #[test]
    fn a_jpeg_comes_back_nearly() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jpg");
        let flat = Tensor::ones([3, 16, 16], (Kind::Float, tch::Device::Cpu)) * 0.5;
        write(&path, &Picture::opaque(flat.copy())).unwrap();
        let back = read(&path, Bounds::default()).unwrap();
        assert!(back.rgb.allclose(&flat, 0.0, 0.02, false));
    }

    #[test]
    fn a_picture_beyond_the_bounds_and_what_is_no_picture_are_refused() {
        let name = Path::new("a.png");
        let png = encode(name, &Picture::opaque(gradient(3)), image::ImageFormat::Png).unwrap();
        let small = Bounds {
            side: 6,
            ..Bounds::default()
        };
        assert!(decode(name, &png, small).is_err());
        assert!(decode(name, &png[..40], Bounds::default()).is_err());
        assert!(decode(name, b"hello", Bounds::default()).is_err());
        assert!(write(Path::new("a.gif"), &Picture::opaque(gradient(3))).is_err());
    }

    #[test]
    fn what_is_no_number_is_written_as_black() {
        let nan = Tensor::from_slice(&[f32::NAN, 2.0, -1.0]).view([3, 1, 1]);
        assert_eq!(interleave(&nan), [0, 255, 0]);
    }
}
