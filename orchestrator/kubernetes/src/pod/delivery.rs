//! How the launcher gets into a step's container. Pure.

use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, ImageVolumeSource, Volume, VolumeMount,
};

/// Where our own images carry the launcher.
const IN_IMAGE: &str = "/auria/bin/auria-launcher";
/// Where an init container puts it.
const COPIED: &str = "/auria/launcher";
/// Where a volume of its image is seen.
const MOUNTED: &str = "/auria/image";

/// How the launcher gets into a step's container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LauncherDelivery {
    /// The image carries it at `/auria/bin/auria-launcher`.
    InImage,
    /// A volume of the launcher's image; the cluster has image volumes.
    ImageVolume {
        /// The launcher's image.
        image: String,
    },
    /// An init container copies it: leaves every image untouched, and costs a start.
    InitContainer {
        /// The launcher's image.
        image: String,
    },
}

/// Where the launcher comes from for images that do not carry it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LauncherSource {
    /// The launcher's image.
    pub image: Option<String>,
    /// Beginnings of the names of images that carry it.
    pub carried_by: Vec<String>,
    /// Whether a Pod has run from an image volume on this cluster.
    pub image_volumes: bool,
}

impl LauncherSource {
    /// The way for a step's image.
    ///
    /// # Errors
    /// Where there is none: the image does not carry the launcher, and no image of the
    /// launcher is configured.
    pub fn delivery(&self, image: &str) -> Result<LauncherDelivery, String> {
        if self.carried_by.iter().any(|start| image.starts_with(start)) {
            return Ok(LauncherDelivery::InImage);
        }
        match &self.image {
            Some(launcher) if self.image_volumes => Ok(LauncherDelivery::ImageVolume {
                image: launcher.clone(),
            }),
            Some(launcher) => Ok(LauncherDelivery::InitContainer {
                image: launcher.clone(),
            }),
            None => Err(format!(
                "the image `{image}` is not known to carry the launcher, and the controller has no launcher image to bring it with: the ConfigMap auria-config names one (launcher-image), and images that carry it (launcher-in)"
            )),
        }
    }
}

/// What a delivery adds to a Pod.
#[derive(Default)]
pub(super) struct Added {
    pub(super) program: String,
    pub(super) volume: Option<Volume>,
    pub(super) mount: Option<VolumeMount>,
    pub(super) init: Option<Container>,
}

impl LauncherDelivery {
    pub(super) fn add(&self) -> Added {
        let mount = |path: &str, read_only| VolumeMount {
            name: "launcher".to_owned(),
            mount_path: path.to_owned(),
            read_only: Some(read_only),
            ..VolumeMount::default()
        };
        match self {
            Self::InImage => Added {
                program: IN_IMAGE.to_owned(),
                ..Added::default()
            },
            Self::ImageVolume { image } => Added {
                program: format!("{MOUNTED}{IN_IMAGE}"),
                volume: Some(Volume {
                    name: "launcher".to_owned(),
                    image: Some(ImageVolumeSource {
                        reference: Some(image.clone()),
                        pull_policy: None,
                    }),
                    ..Volume::default()
                }),
                mount: Some(mount(MOUNTED, true)),
                init: None,
            },
            Self::InitContainer { image } => Added {
                program: format!("{COPIED}/auria-launcher"),
                volume: Some(Volume {
                    name: "launcher".to_owned(),
                    empty_dir: Some(EmptyDirVolumeSource::default()),
                    ..Volume::default()
                }),
                mount: Some(mount(COPIED, true)),
                init: Some(Container {
                    name: "launcher".to_owned(),
                    image: Some(image.clone()),
                    command: Some(vec![
                        IN_IMAGE.to_owned(),
                        "install".to_owned(),
                        COPIED.to_owned(),
                    ]),
                    volume_mounts: Some(vec![mount(COPIED, false)]),
                    ..Container::default()
                }),
            },
        }
    }
}
