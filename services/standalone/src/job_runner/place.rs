//! Why a container cannot start yet, or ever.

/// A reason to wait, as the container's status shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unready {
    pub(super) reason: &'static str,
    pub(super) message: String,
    /// Whether time can heal it: something may appear that is missing.
    pub(super) retry: bool,
}

impl Unready {
    /// Configuration that is missing and may yet come.
    pub(super) fn config(message: impl Into<String>) -> Self {
        Self { reason: "CreateContainerConfigError", message: message.into(), retry: true }
    }

    /// Configuration that this runner cannot honour.
    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self { reason: "CreateContainerConfigError", message: message.into(), retry: false }
    }

    /// A volume that cannot be set up yet.
    pub(super) fn volume(volume: &str, message: &str) -> Self {
        let message = format!("MountVolume.SetUp failed for volume {volume:?}: {message}");
        Self { reason: "ContainerCreating", message, retry: true }
    }

    /// An image that no program stands for.
    pub(super) fn image(image: &str) -> Self {
        let message = format!(
            "Back-off pulling image {image:?}: ErrImagePull: no program on this machine stands for \
             the image; map it to one when starting the Job runner, or use an image that is mapped"
        );
        Self { reason: "ImagePullBackOff", message, retry: false }
    }
}
