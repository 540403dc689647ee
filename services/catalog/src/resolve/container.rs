//! An expanded Function as a container.

use coffer_api::function::FunctionSpec;
use coffer_api::runtime_settings::{ContainerSettings, Ionice, Nice};
use k8s_openapi::api::core::v1::{Container, EnvVar};

/// The container that a Function stands for. Its image is pulled only when the node lacks it: tags are immutable here,
/// and a backup should not wait for a registry.
pub(super) fn build(name: String, function: FunctionSpec) -> Container {
    let FunctionSpec {
        image,
        command,
        args,
        working_dir,
        ports,
        volume_mounts,
        volume_devices,
        runtime_settings,
        pod_security_policy_name: _,
    } = function;
    let ContainerSettings {
        resources,
        liveness_probe,
        readiness_probe,
        lifecycle,
        security_context,
        env,
        env_from,
        nice,
        ionice,
    } = runtime_settings.unwrap_or_default();
    let env = priorities(nice, ionice).into_iter().chain(env).collect::<Vec<_>>();
    Container {
        name,
        image: Some(image),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: some(command),
        args: some(args),
        working_dir: working_dir.filter(|dir| !dir.is_empty()),
        ports: some(ports),
        volume_mounts: some(volume_mounts),
        volume_devices: some(volume_devices),
        resources,
        liveness_probe,
        readiness_probe,
        lifecycle,
        security_context,
        env: some(env),
        env_from: some(env_from),
        ..Container::default()
    }
}

/// The variables by which Stash's images learn their priorities.
fn priorities(nice: Option<Nice>, ionice: Option<Ionice>) -> Vec<EnvVar> {
    let Nice { adjustment } = nice.unwrap_or_default();
    let Ionice { class, class_data } = ionice.unwrap_or_default();
    let named = [
        ("NICE_ADJUSTMENT", adjustment),
        ("IONICE_CLASS", class),
        ("IONICE_CLASS_DATA", class_data),
    ];
    let set = named.into_iter().filter_map(|(name, value)| Some((name, value?)));
    set.map(|(name, value)| EnvVar {
        name: name.to_owned(),
        value: Some(value.to_string()),
        ..EnvVar::default()
    })
    .collect()
}

fn some<T>(items: Vec<T>) -> Option<Vec<T>> {
    (!items.is_empty()).then_some(items)
}
