//! What each CUDA version needs of a node: the least driver, and the GPUs that its
//! compiler makes code for. The one table that Dockerfiles, pipelines and documents are
//! compared with. It never talks to a cluster.

use auria_core::plan::CudaPin;
use std::fmt;

/// Where the table's drivers come from: “CUDA Toolkit and Corresponding Driver Versions”.
pub const DRIVERS_FROM: &str = "https://docs.nvidia.com/cuda/cuda-toolkit-release-notes/index.html";
/// Where its compute capabilities come from: the targets of each version's `nvcc`.
pub const COMPUTE_FROM: &str =
    "https://docs.nvidia.com/cuda/cuda-compiler-driver-nvcc/index.html#gpu-feature-list";

/// The compute capability of a GPU: 9.0 is an H100, 8.0 an A100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Capability {
    /// Major version.
    pub major: u32,
    /// Minor version.
    pub minor: u32,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A CUDA version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Toolkit {
    /// Major version.
    pub major: u32,
    /// Minor version.
    pub minor: u32,
    /// The oldest Linux driver that comes with this CUDA version.
    pub driver: &'static str,
    /// The oldest GPUs that it compiles for.
    pub oldest: Capability,
    /// The newest.
    pub newest: Capability,
}

const fn toolkit_of(
    (major, minor): (u32, u32),
    driver: &'static str,
    oldest: (u32, u32),
    newest: (u32, u32),
) -> Toolkit {
    Toolkit {
        major,
        minor,
        driver,
        oldest: Capability {
            major: oldest.0,
            minor: oldest.1,
        },
        newest: Capability {
            major: newest.0,
            minor: newest.1,
        },
    }
}

/// Every version that is known here, oldest first.
pub const TOOLKITS: [Toolkit; 21] = [
    toolkit_of((11, 0), "450.51.05", (3, 5), (8, 0)),
    toolkit_of((11, 1), "455.23", (3, 5), (8, 6)),
    toolkit_of((11, 2), "460.27.03", (3, 5), (8, 6)),
    toolkit_of((11, 3), "465.19.01", (3, 5), (8, 6)),
    toolkit_of((11, 4), "470.42.01", (3, 5), (8, 7)),
    toolkit_of((11, 5), "495.29.05", (3, 5), (8, 7)),
    toolkit_of((11, 6), "510.39.01", (3, 5), (8, 7)),
    toolkit_of((11, 7), "515.43.04", (3, 5), (8, 7)),
    toolkit_of((11, 8), "520.61.05", (3, 5), (9, 0)),
    toolkit_of((12, 0), "525.60.13", (5, 0), (9, 0)),
    toolkit_of((12, 1), "530.30.02", (5, 0), (9, 0)),
    toolkit_of((12, 2), "535.54.03", (5, 0), (9, 0)),
    toolkit_of((12, 3), "545.23.06", (5, 0), (9, 0)),
    toolkit_of((12, 4), "550.54.14", (5, 0), (9, 0)),
    toolkit_of((12, 5), "555.42.02", (5, 0), (9, 0)),
    toolkit_of((12, 6), "560.28.03", (5, 0), (9, 0)),
    toolkit_of((12, 8), "570.26", (5, 0), (12, 0)),
    toolkit_of((12, 9), "575.51.03", (5, 0), (12, 1)),
    toolkit_of((13, 0), "580.65.06", (7, 5), (12, 1)),
    toolkit_of((13, 1), "590.44.01", (7, 5), (12, 1)),
    toolkit_of((13, 2), "595.45.04", (7, 5), (12, 1)),
];

/// What is known of the version that an image is pinned to; none of versions that NVIDIA
/// released after this table was written, which are held to the driver alone.
#[must_use]
pub fn toolkit(pin: &CudaPin) -> Option<&'static Toolkit> {
    TOOLKITS
        .iter()
        .find(|known| (known.major, known.minor) == (pin.major, pin.minor))
}

/// Whether a driver of CUDA version `driver` runs what `pin` is pinned to.
#[must_use]
pub fn driver_serves(pin: &CudaPin, driver: (u32, u32)) -> bool {
    if pin.minor_compatible {
        return driver.0 >= pin.major;
    }
    driver >= (pin.major, pin.minor)
}

/// Whether `pin`'s compiler makes code for a GPU.
#[must_use]
pub fn compiles_for(pin: &CudaPin, gpu: Capability) -> bool {
    toolkit(pin).is_none_or(|known| (known.oldest..=known.newest).contains(&gpu))
}

#[cfg(test)]
mod tests {
    use super::{Capability, TOOLKITS, compiles_for, driver_serves, toolkit};
    use auria_core::plan::CudaPin;

    fn pin(major: u32, minor: u32) -> CudaPin {
        CudaPin {
            major,
            minor,
            minor_compatible: false,
        }
    }

    #[test]
    fn versions_and_drivers_grow_together() {
        let driver = |text: &str| -> Vec<u32> {
            text.split('.').map(|part| part.parse().unwrap()).collect()
        };
        for pair in TOOLKITS.windows(2) {
            let [older, newer] = pair else { unreachable!() };
            assert!((older.major, older.minor) < (newer.major, newer.minor));
            assert!(driver(older.driver) < driver(newer.driver), "{newer:?}");
            assert!(older.oldest <= newer.oldest && older.newest <= newer.newest);
        }
    }

    #[test]
    fn a_driver_serves_older_versions_and_a_gpu_has_its_range() {
        assert!(driver_serves(&pin(11, 8), (12, 2)));
        assert!(driver_serves(&pin(12, 2), (12, 2)));
        assert!(!driver_serves(&pin(12, 6), (12, 2)));
        let compatible = CudaPin {
            minor_compatible: true,
            ..pin(12, 6)
        };
        assert!(driver_serves(&compatible, (12, 2)) && !driver_serves(&compatible, (11, 8)));
        let gpu = |major, minor| Capability { major, minor };
        assert!(compiles_for(&pin(11, 8), gpu(3, 7)) && !compiles_for(&pin(12, 0), gpu(3, 7)));
        assert!(!compiles_for(&pin(12, 6), gpu(10, 0)) && compiles_for(&pin(12, 8), gpu(10, 0)));
        assert_eq!(toolkit(&pin(99, 0)), None);
        assert!(compiles_for(&pin(99, 0), gpu(30, 0)));
    }
}
